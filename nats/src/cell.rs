//! One key of a bucket, written by compare-and-set: whoever writes names the revision that the key has.
//!
//! The written time to live is why this does not use the client library's `create`: over the marker of an expired key that
//! one drops it, and the document would stay for ever.

use std::time::Duration;

use async_nats::jetstream::{message::PublishMessage, stream::LastRawMessageErrorKind};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Bus, BusError,
    bus::{header, is_stale, json},
};

/// The notice of a key that was given up lapses soon: the key is then as if it had never been.
const MARKER_TIME_TO_LIVE: Duration = Duration::from_secs(1);

/// A key.
#[derive(Debug)]
pub(crate) struct Cell<'a> {
    bus: &'a Bus,
    bucket: String,
    key: String,
    time_to_live: Duration,
}

/// What a key has.
pub(crate) enum Found<T> {
    /// Nothing; the revision to write it with.
    Free(u64),
    /// A document, and its revision.
    Held(T, u64),
}

impl<'a> Cell<'a> {
    /// The key `key` of the bucket `bucket` of this namespace, whose documents live for `time_to_live`.
    pub(crate) fn new(bus: &'a Bus, bucket: &str, key: String, time_to_live: Duration) -> Self {
        Self { bus, bucket: bus.namespace().resource(bucket), key, time_to_live }
    }

    /// Writes a document where the key has this revision; returns the new one, or `None` where it has another.
    pub(crate) async fn write<T: Serialize>(&self, document: &T, revision: u64) -> Result<Option<u64>, BusError> {
        let message = PublishMessage::build().payload(json(document)).ttl(self.time_to_live);
        self.store("write", message.expected_last_subject_sequence(revision)).await
    }

    /// Gives the key up where it has this revision; returns the one with which it can be written again at once, or `None`
    /// where it has another.
    pub(crate) async fn erase(&self, revision: u64) -> Result<Option<u64>, BusError> {
        let message = PublishMessage::build()
            .header("KV-Operation", "PURGE")
            .header("Nats-Rollup", "sub")
            .ttl(MARKER_TIME_TO_LIVE)
            .expected_last_subject_sequence(revision);
        self.store("give up", message).await
    }

    /// Looks at the key.
    pub(crate) async fn look<T: DeserializeOwned>(&self) -> Result<Found<T>, BusError> {
        let failed = |cause: String| self.failed("look at", cause);
        let stream = self.bus.jetstream().get_stream_no_info(format!("KV_{}", self.bucket)).await;
        let stream = stream.map_err(|error| failed(error.to_string()))?;
        match stream.get_last_raw_message_by_subject(&self.subject()).await {
            Ok(last) if is_marker(&last.headers) => Ok(Found::Free(last.sequence)),
            Ok(last) => {
                let document = serde_json::from_slice(&last.payload).map_err(|error| failed(error.to_string()))?;
                Ok(Found::Held(document, last.sequence))
            }
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(Found::Free(0)),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    async fn store(&self, doing: &str, message: PublishMessage) -> Result<Option<u64>, BusError> {
        match self.bus.store(self.subject(), message).await {
            Ok(stored) => Ok(Some(stored.sequence)),
            Err(error) if is_stale(&error) => Ok(None),
            Err(error) => Err(self.failed(doing, error)),
        }
    }

    fn subject(&self) -> String {
        format!("$KV.{}.{}", self.bucket, self.key)
    }

    fn failed(&self, doing: &str, cause: impl ToString) -> BusError {
        BusError::new(format!("{doing} key {} of {}", self.key, self.bucket), cause)
    }
}

fn is_marker(headers: &async_nats::HeaderMap) -> bool {
    header(Some(headers), "KV-Operation").is_some() || header(Some(headers), "Nats-Marker-Reason").is_some()
}
