//! The vocabulary between clients and the server.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use super::config::{ConsumerConfig, StreamConfig};

/// Number of a connection. A client that reconnects gets another one.
pub type ConnectionId = u64;

/// Number that a client gives to a subscription of its connection.
pub type Sid = u64;

/// Number that a client gives to a request.
pub type RequestId = u64;

/// Headers of a published message that the server reads.
#[derive(Debug, Clone, Default)]
pub struct Headers {
    /// `Nats-Msg-Id`: a repeated one within the duplicate window is stored once.
    pub id: Option<Rc<str>>,
    /// `Nats-Expected-Last-Subject-Sequence`: the message is stored only behind this one. 0 for a subject without messages.
    pub expect: Option<u64>,
    /// `Nats-TTL`: the message expires after this time.
    pub time_to_live: Option<Duration>,
}

/// Message that is stored in a stream.
#[derive(Debug, Clone)]
pub struct Stored<B> {
    /// Sequence in the stream.
    pub sequence: u64,
    /// Subject under which it is stored.
    pub subject: Rc<str>,
    /// Content. `None` for the marker of an expired or deleted key.
    pub body: Option<B>,
    /// Time at which the server stored it.
    pub at: Instant,
    /// Size in bytes, as far as limits of size need it.
    pub(super) size: u64,
    /// Time at which it expires.
    pub(super) expires: Option<Instant>,
}

/// Delivery of a stored message by a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Acknowledgement subject of this delivery.
    pub reply: Rc<str>,
    /// Sequence in the stream.
    pub sequence: u64,
    /// Number of this delivery of the message, from 1.
    pub attempt: u64,
    /// Messages that match the filter of the consumer and that it has not delivered yet.
    pub pending: u64,
    /// Time at which the message was stored.
    pub stored: Instant,
}

/// Message at a subscription.
#[derive(Debug, Clone)]
pub struct Message<B> {
    /// Subject to which it was published, or under which it was stored.
    pub subject: Rc<str>,
    /// Content. `None` for markers, and for republished headers.
    pub body: Option<B>,
    /// Sequence in the stream, if it comes from one.
    pub sequence: Option<u64>,
    /// Present if a consumer has delivered it.
    pub delivered: Option<Delivered>,
}

/// Answer to a pull without a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 404: no message waits.
    NoMessages,
    /// 408: the time of the pull is over.
    Timeout,
    /// 409: the consumer was deleted.
    ConsumerDeleted,
    /// 503: there is no such consumer.
    NoResponders,
    /// A watch has sent everything that was stored when it began.
    Synced,
}

/// Kind of an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckKind {
    /// `+ACK`: the message is removed from a work queue.
    Ack,
    /// `-NAK`: the message is delivered again, after this time.
    Nak(Duration),
    /// `+WPI`: the redelivery timeout starts again.
    Progress,
    /// `+TERM`: the message is not delivered again, and removed from a work queue.
    Term,
}

/// Pull of one message.
#[derive(Debug, Clone)]
pub struct Pull {
    /// Stream of the consumer.
    pub stream: Rc<str>,
    /// Name of the consumer.
    pub consumer: Rc<str>,
    /// Subscription that receives the message.
    pub sid: Sid,
    /// Text that comes back with a status, so that the client knows which pull it answers.
    pub tag: Rc<str>,
    /// Priority, 0 first. Pulls of one priority take turns.
    pub priority: u8,
    /// Time for which the pull waits. `None` for one that does not wait.
    pub expires: Option<Duration>,
}

/// Operation of a client. With a request number, the server answers.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are named as the types that describe them")]
pub enum Op<B> {
    /// Publish a message. With a request, the stream that stores it answers.
    Publish { subject: Rc<str>, body: Option<B>, size: u64, headers: Headers, request: Option<RequestId> },
    /// Subscribe to a pattern.
    Subscribe { sid: Sid, pattern: Rc<str> },
    /// End a subscription. Pulls that would answer to it are withdrawn by that.
    Unsubscribe { sid: Sid },
    /// Answer as soon as everything before has been processed.
    Ping { request: RequestId },
    /// Create a stream, or leave it as it is.
    CreateStream { config: StreamConfig, request: RequestId },
    /// Create a consumer, or find it.
    OpenConsumer { stream: Rc<str>, config: ConsumerConfig, request: RequestId },
    /// Delete a consumer.
    DeleteConsumer { stream: Rc<str>, consumer: Rc<str>, request: RequestId },
    /// Pull a message.
    Pull(Pull),
    /// Acknowledge a delivery.
    Acknowledge { reply: Rc<str>, kind: AckKind, request: Option<RequestId> },
    /// Last message of a subject.
    Last { stream: Rc<str>, subject: Rc<str>, request: RequestId },
    /// All messages that match a filter, from a sequence on.
    Read { stream: Rc<str>, filter: Rc<str>, from: u64, request: RequestId },
    /// Number of messages of each subject that matches a filter.
    Count { stream: Rc<str>, filter: Rc<str>, request: RequestId },
    /// Delete one message.
    Delete { stream: Rc<str>, sequence: u64, request: RequestId },
    /// Delete every message before a sequence.
    Purge { stream: Rc<str>, before: u64, request: RequestId },
    /// Watch the last message of each subject that matches a filter, and those that follow.
    Watch { stream: Rc<str>, filter: Rc<str>, sid: Sid, from: u64 },
}

/// Reason why the server refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The expected message is not the last one of the subject (10071).
    Stale,
    /// The stream or the subject holds as much as it may (10047, 10077).
    Full,
    /// There is no such stream, consumer or message.
    Missing,
    /// The filter of the consumer overlaps with that of another consumer of a work queue (10100).
    Overlap,
}

/// Answer to a request.
#[derive(Debug, Clone)]
pub enum Answer<B> {
    /// A message was stored, or was stored before under the same id.
    Stored {
        /// Sequence in the stream.
        sequence: u64,
        /// True if the message was stored before.
        is_duplicate: bool,
    },
    /// The request was refused.
    Refused(Refusal),
    /// The request was carried out.
    Done,
    /// The last message of a subject.
    Last(Option<Stored<B>>),
    /// Messages, oldest first.
    Messages(Vec<Stored<B>>),
    /// Number of messages by subject.
    Counts(Vec<(Rc<str>, u64)>),
}

/// Something that the server sends.
#[derive(Debug, Clone)]
pub enum Output<B> {
    /// A message to a subscription.
    Message(ConnectionId, Sid, Message<B>),
    /// The answer to a pull without a message, with the tag of the pull.
    Status(ConnectionId, Sid, Rc<str>, Status),
    /// The answer to a request.
    Answer(ConnectionId, RequestId, Answer<B>),
}
