//! Replay: recorded events go through the same code that planned the fleet, and its decisions are compared with those that were
//! recorded.
//!
//! The planner's inputs are registry entries, heartbeats and notices of jobs, which are not events. What follows from events is
//! rebuilt (`world.rs`): declarations, hives and their presence, workers and their phases, jobs from when they were queued. What
//! does not is left open, and listed: free memory, devices and labels of hives, and jobs that no worker has begun.

mod compare;
mod describe;
mod given;
mod input;
mod prepare;
mod replayer;
mod result;
mod world;

pub use self::{
    given::{Conditions, Recorded},
    result::{Decided, Difference, ReplayStep, Replayed},
};
use self::{prepare::prepare, replayer::Replayer};

/// Replays events, which are in the order of their times.
pub fn replay(events: &[Recorded], conditions: Conditions) -> Replayed {
    let prepared = prepare(events, &conditions);
    Replayer::new(prepared, conditions).run()
}

#[cfg(test)]
mod tests;
