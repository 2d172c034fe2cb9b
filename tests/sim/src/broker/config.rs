//! Configurations of streams and consumers.

use std::{rc::Rc, time::Duration};

/// Retention policy of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Messages stay until a limit is reached.
    Limits,
    /// Acknowledged messages are removed.
    WorkQueue,
}

/// Treatment of a message for which a stream has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// The oldest message is deleted.
    Old,
    /// The new message is refused.
    New,
}

/// Republishing of stored messages to subscribers: subjects that begin with `from` begin with `to` instead.
#[derive(Debug, Clone)]
pub struct Republish {
    /// Beginning of stored subjects.
    pub from: Rc<str>,
    /// Beginning of republished subjects.
    pub to: Rc<str>,
    /// True if the content is left out.
    pub headers_only: bool,
}

/// Configuration of a stream.
#[derive(Debug, Clone)]
pub struct StreamConfig {
    /// Name of the stream.
    pub name: Rc<str>,
    /// Pattern of the subjects that it stores.
    pub subjects: Rc<str>,
    /// Retention policy.
    pub retention: Retention,
    /// Treatment of a message for which there is no room.
    pub discard: Discard,
    /// Maximum number of messages of a subject.
    pub per_subject: Option<u64>,
    /// Maximum size in bytes.
    pub max_bytes: Option<u64>,
    /// Time for which message ids are remembered.
    pub duplicates: Duration,
    /// Republishing of stored messages.
    pub republish: Option<Republish>,
    /// Time to live of the marker of an expired message. `None` for a stream without markers.
    pub markers: Option<Duration>,
}

impl StreamConfig {
    /// A stream without limits.
    pub fn new(name: &str, subjects: &str) -> Self {
        Self {
            name: name.into(),
            subjects: subjects.into(),
            retention: Retention::Limits,
            discard: Discard::Old,
            per_subject: None,
            max_bytes: None,
            duplicates: Duration::from_secs(120),
            republish: None,
            markers: None,
        }
    }

    /// A key-value bucket.
    pub fn bucket(name: &str) -> Self {
        Self {
            discard: Discard::New,
            per_subject: Some(1),
            markers: Some(Duration::from_secs(60)),
            ..Self::new(name, &format!("{name}.>"))
        }
    }
}

/// Configuration of a consumer.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// Name of the consumer.
    pub name: Rc<str>,
    /// Filter of the subjects that it delivers.
    pub filter: Rc<str>,
    /// Redelivery timeout.
    pub ack_wait: Duration,
    /// Time after which the server deletes the consumer if nobody uses it.
    pub unused: Duration,
}
