//! The rules that hold in every step of a simulation, checked by an observer that sees the server and every process.

mod ends;
mod job;
mod judge;
mod waits;

pub use self::{
    ends::WorkerEnd,
    job::{Accepted, JobState},
    judge::{Counts, Judge},
};
