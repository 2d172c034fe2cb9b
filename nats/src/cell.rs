//! One key of a bucket, written by compare-and-set: a write names the current revision of the key.
//!
//! The client library's `create` is not used, because it drops the time to live when it writes over the marker of an expired
//! key: the document would never expire.

use std::time::Duration;

use async_nats::jetstream::{message::PublishMessage, stream::LastRawMessageErrorKind};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Bus, BusError,
    bus::{header, is_stale, json},
};

/// Time to live of the marker of a released key. Afterwards the key is as if it had never existed. One second is the shortest
/// that the server accepts; the marker is only needed until watchers have received it.
const MARKER_TIME_TO_LIVE: Duration = Duration::from_secs(1);

/// Key of a bucket.
#[derive(Debug)]
pub(crate) struct Cell<'a> {
    bus: &'a Bus,
    bucket: String,
    key: String,
    time_to_live: Duration,
}

/// Content of a key.
pub(crate) enum Found<T> {
    /// No document. Holds the revision to write the key with.
    Free(u64),
    /// A document with its revision.
    Held(T, u64),
}

/// Document of any kind.
pub(crate) struct RawDocument {
    pub(crate) body: Bytes,
    /// True if the document has a time to live.
    pub(crate) expires: bool,
}

impl<'a> Cell<'a> {
    /// Key `key` of the bucket `bucket` in this namespace, whose documents expire after `time_to_live`.
    pub(crate) fn new(bus: &'a Bus, bucket: &str, key: String, time_to_live: Duration) -> Self {
        Self { bus, bucket: bus.namespace().resource(bucket), key, time_to_live }
    }

    /// Writes a document if the key has this revision. Returns the new revision, or `None` if the key has another one.
    pub(crate) async fn write<T: Serialize>(&self, document: &T, revision: u64) -> Result<Option<u64>, BusError> {
        let message = PublishMessage::build().payload(json(document)).ttl(self.time_to_live);
        self.store("write", message.expected_last_subject_sequence(revision)).await
    }

    /// Writes a document that does not expire, if the key has this revision. Returns the new revision, or `None` if the key has
    /// another one.
    pub(crate) async fn write_for_good<T: Serialize>(
        &self,
        document: &T,
        revision: u64,
    ) -> Result<Option<u64>, BusError> {
        let message = PublishMessage::build().payload(json(document));
        self.store("write", message.expected_last_subject_sequence(revision)).await
    }

    /// Deletes the document if the key has this revision. Returns the revision with which the key can be written again at once,
    /// or `None` if the key has another one.
    pub(crate) async fn delete(&self, revision: u64) -> Result<Option<u64>, BusError> {
        let message = PublishMessage::build()
            .header("KV-Operation", "PURGE")
            .header("Nats-Rollup", "sub")
            .ttl(MARKER_TIME_TO_LIVE)
            .expected_last_subject_sequence(revision);
        self.store("delete", message).await
    }

    /// Reads the key.
    pub(crate) async fn read<T: DeserializeOwned>(&self) -> Result<Found<T>, BusError> {
        match self.read_raw().await? {
            Found::Free(revision) => Ok(Found::Free(revision)),
            Found::Held(RawDocument { body, .. }, revision) => {
                let document = serde_json::from_slice(&body).map_err(|error| self.failed("read", error))?;
                Ok(Found::Held(document, revision))
            }
        }
    }

    /// Reads the key, whatever is in it.
    pub(crate) async fn read_raw(&self) -> Result<Found<RawDocument>, BusError> {
        let failed = |cause: String| self.failed("read", cause);
        let stream = self.bus.jetstream().get_stream_no_info(format!("KV_{}", self.bucket)).await;
        let stream = stream.map_err(|error| failed(error.to_string()))?;
        match stream.get_last_raw_message_by_subject(&self.subject()).await {
            Ok(last) if is_marker(&last.headers) => Ok(Found::Free(last.sequence)),
            Ok(last) => {
                let expires = header(Some(&last.headers), "Nats-TTL").is_some();
                Ok(Found::Held(RawDocument { body: last.payload, expires }, last.sequence))
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
