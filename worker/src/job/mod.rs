//! One job from its delivery to its last chunk. Step 5 of a job's path.
//!
//! [`JobRunner`] claims a delivered job and settles it. In between, an attempt (`attempt.rs`) reads what the job has
//! answered so far, lets a [`Producer`] produce the rest, and appends it (`stream.rs`, `writer.rs`). Everything that depends
//! on the kind of model is behind the two traits in `producer.rs`; `crate::produce` has their implementations.
//!
//! The order of commits makes a job safe: output first, acknowledgement last. A worker that receives the job again reads
//! its output before anything else. A complete answer is only acknowledged, an incomplete one is continued.

mod attempt;
mod dead_letter;
mod producer;
mod runner;
mod shared;
mod stream;
mod writer;

pub(crate) use self::{
    producer::{Completion, Opening, Producer, Production, Request},
    runner::{JobRunner, Settled},
    shared::Shared,
};
