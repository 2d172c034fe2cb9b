//! Operations that the model and a real server have in common. They wait until the operation is done.

use std::{fmt, time::Duration};

/// Stream of a scenario.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StreamSpec {
    pub(super) name: &'static str,
    pub(super) subjects: &'static str,
    pub(super) work_queue: bool,
    pub(super) discard_new: bool,
    pub(super) per_subject: Option<u64>,
    pub(super) max_bytes: Option<u64>,
    pub(super) duplicates: Option<Duration>,
    /// Beginning of stored subjects and of the republished ones; true if the content is left out.
    pub(super) republish: Option<(&'static str, &'static str, bool)>,
    pub(super) is_bucket: bool,
}

/// Headers of a publish.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Headers {
    pub(super) id: Option<&'static str>,
    pub(super) expect: Option<u64>,
    pub(super) time_to_live: Option<Duration>,
    /// The message is the marker of a deleted key.
    pub(super) deletes: bool,
}

/// Kind of an acknowledgement.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ack {
    Done,
    Nak(Duration),
    Progress,
    Term,
}

/// Something that a pull or a subscription has received.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Received {
    Message {
        body: String,
        /// Number of this delivery, and the number of messages that wait; zeroes for messages of no consumer.
        attempt: u64,
        pending: u64,
        reply: String,
    },
    Status(u16),
}

impl fmt::Debug for Received {
    /// Without the acknowledgement subject, which holds a time.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { body, attempt, pending, .. } => write!(f, "{body}, delivery {attempt}, {pending} behind"),
            Self::Status(code) => write!(f, "status {code}"),
        }
    }
}

/// A server, real or not.
pub(super) trait Broker {
    fn create_stream(&mut self, spec: &StreamSpec);
    /// Returns the sequence and true for a duplicate, or the error: `stale`, `full`, or another one.
    fn publish(&mut self, subject: &str, body: &str, headers: Headers) -> Result<(u64, bool), String>;
    fn open_consumer(&mut self, stream: &str, name: &str, filter: &str, ack_wait: Duration) -> Result<(), String>;
    fn delete_consumer(&mut self, stream: &str, name: &str);
    /// Sends a pull, which waits for this time or not at all. Returns its number.
    fn pull(&mut self, stream: &str, consumer: &str, priority: u8, expires: Option<Duration>) -> usize;
    /// Ends the subscription of a pull at the server.
    fn withdraw(&mut self, pull: usize);
    /// Subscribes to a subject. Returns a number for `receive`.
    fn subscribe(&mut self, pattern: &str) -> usize;
    /// The next that a pull or a subscription receives within a time.
    fn receive(&mut self, at: usize, within: Duration) -> Option<Received>;
    fn acknowledge(&mut self, reply: &str, ack: Ack);
    /// Sequence and content of the last message of a subject; no content for the marker of a key.
    fn last(&mut self, stream: &str, subject: &str) -> Option<(u64, Option<String>)>;
    /// Number of messages of a stream.
    fn count(&mut self, stream: &str) -> u64;
    fn wait(&mut self, time: Duration);
}
