//! Stored messages, read in batches: one request returns many. A stream that is a work queue allows no second consumer for the
//! messages of its workers, so the queue is read in this way.
//!
//! Protocol: <https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-31.md>.

use std::time::SystemTime;

use async_nats::{HeaderMap, Message, StatusCode};
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::json;
use tokio::time::timeout;

use crate::{
    Bus, BusError,
    bus::{header, number},
};

/// Number of messages in a batch of which many are wanted.
pub(crate) const MANY: usize = 500;

/// Maximum size of a batch in bytes, so that large jobs take little memory.
const BYTES: usize = 4 << 20;

/// Status of the message that ends a batch.
const END: u16 = 204;

/// Message of a stream.
#[derive(Debug)]
pub(crate) struct StoredMessage {
    pub(crate) subject: String,
    pub(crate) sequence: u64,
    /// Time at which the server stored the message.
    pub(crate) stored: SystemTime,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
    /// Number of later messages of the stream that match the filter.
    pub(crate) pending: u64,
}

/// First message of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Position {
    /// The message with this sequence, or the next one.
    Sequence(u64),
    /// The first message from this time on.
    Time(SystemTime),
}

impl Bus {
    /// At most `limit` messages of a stream that match `filter`, the first ones from position `from` on. An empty batch means
    /// that there are none.
    ///
    /// # Errors
    /// The server does not answer, or there is no such stream.
    pub(crate) async fn read_batch(
        &self,
        stream: &str,
        filter: &str,
        from: Position,
        limit: usize,
    ) -> Result<Vec<StoredMessage>, BusError> {
        self.read_stream_batch(&self.namespace().resource(stream), filter, from, limit).await
    }

    /// As [`Bus::read_batch`], of the stream with this name on the server.
    ///
    /// # Errors
    /// The server does not answer, or there is no such stream.
    pub(crate) async fn read_stream_batch(
        &self,
        stream: &str,
        filter: &str,
        from: Position,
        limit: usize,
    ) -> Result<Vec<StoredMessage>, BusError> {
        let failed = |cause: String| BusError::new(format!("read the messages of {filter}"), cause);
        let inbox = self.client().new_inbox();
        let mut replies = self.client().subscribe(inbox.clone()).await.map_err(|error| failed(error.to_string()))?;
        let mut request = json!({ "next_by_subj": filter, "batch": limit, "max_bytes": BYTES });
        match from {
            Position::Sequence(sequence) => request["seq"] = json!(sequence.max(1)),
            Position::Time(time) => request["start_time"] = json!(humantime::format_rfc3339_nanos(time).to_string()),
        }
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let sent = self.client().publish_with_reply(subject, inbox, Bytes::from(request.to_string())).await;
        sent.map_err(|error| failed(error.to_string()))?;
        let mut batch = Vec::new();
        loop {
            let reply = timeout(self.settings().request, replies.next()).await;
            let reply = reply.map_err(|_| failed("timed out: no answer in time".to_owned()))?;
            let reply = reply.ok_or_else(|| failed("the connection is closed".to_owned()))?;
            match reply.status {
                None => batch.extend(read(&reply)),
                Some(status) if status.as_u16() == END || status == StatusCode::NOT_FOUND => return Ok(batch),
                Some(StatusCode::NO_RESPONDERS) => return Err(failed("no responders".to_owned())),
                Some(status) => {
                    let why = reply.description.unwrap_or_default();
                    return Err(failed(format!("the server refused the request: {why} ({status})")));
                }
            }
        }
    }
}

fn read(message: &Message) -> Option<StoredMessage> {
    let headers = message.headers.clone()?;
    Some(StoredMessage {
        subject: header(Some(&headers), "Nats-Subject")?.to_owned(),
        sequence: number(message, "Nats-Sequence")?,
        stored: humantime::parse_rfc3339(header(Some(&headers), "Nats-Time-Stamp")?).ok()?,
        headers,
        payload: message.payload.clone(),
        pending: number(message, "Nats-Num-Pending").unwrap_or(0),
    })
}
