//! Model of a NATS server with JetStream, as far as rbee uses it: a state machine without I/O and without a clock.
//!
//! [`Server::handle`] takes one operation of a connection and returns what the server sends. [`Server::advance`] lets time pass. The
//! model has the properties that make the product hard: a stale acknowledgement counts, a nak of an earlier delivery makes a
//! further one, a pull of a frozen client swallows a job. `tests/it/sim/` runs one table of scenarios against the model and
//! against a real server, so that the model cannot drift.

mod config;
mod consumer;
mod message;
mod pattern;
mod server;
mod stream;

pub use self::{
    config::{ConsumerConfig, Discard, Republish, Retention, StreamConfig},
    message::{
        AckKind, Answer, ConnectionId, Delivered, Headers, Message, Op, Output, Pull, Refusal, RequestId, Sid, Status,
        Stored,
    },
    server::Server,
};
