//! Jobs: submitted to a durable queue, pulled by workers one at a time, and removed from the queue when they are answered.
//! Steps 1, 4 and 6 of a job's path.

mod delivery;
mod id;
mod inspect;
mod pull;
mod settle;
mod submit;

pub use self::{delivery::Delivery, inspect::QueuedJob, pull::JobQueue, submit::Submission};
