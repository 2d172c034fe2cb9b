//! The queen: decides which models run on which hives. Step 2 of a job's path.
//!
//! [`controller`] is the one task that owns the queen's view of the fleet. [`decide`] makes the decisions as pure functions.
//! Of several queens the holder of the leader lease ([`leader`]) plans; all of them answer requests.
//! A queen holds nothing that the bus does not hold: after a restart it knows the fleet again within a moment, and running
//! and queued jobs do not wait for it. [`gateway`] is the HTTP API; it is a client of the bus like any other.

mod api;
mod batches;
mod body_sweeper;
mod controller;
pub mod decide;
pub mod gateway;
mod inference;
mod large_bodies;
mod leader;
mod metrics;
mod open_answers;
mod pruner;
mod sealer;
mod streams;

pub use controller::{QueenConfig, QueenError, run};
pub use inference::declared;
