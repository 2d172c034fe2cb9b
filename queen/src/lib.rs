//! The queen: she decides which models run where. Step 2 of a job's path.
//!
//! [`controller`] is the one task that owns what she knows; [`decide`] says what is to be done and does nothing itself. Of
//! several queens the one who holds the lease ([`leader`]) decides; all of them answer.
//! She holds nothing that the bus does not hold: a queen that was killed knows the fleet again a moment after her
//! restart, and running and queued jobs never wait for her. [`gateway`] is the HTTP door; it is a client of the bus like
//! any other.

mod api;
mod controller;
pub mod decide;
pub mod gateway;
mod infer;
mod leader;
mod metrics;
mod sealer;

pub use controller::{QueenConfig, QueenError, run};
