//! Decisions: functions of values. Nothing here does I/O, reads a clock or draws random numbers.

pub mod alert;
pub mod backoff;
pub mod deadlines;
pub mod dirty;
pub mod fleet;
pub mod limits;
pub mod liveness;
pub mod overlay;
pub mod place;
pub mod plan;
mod plural;
pub mod position;
pub mod queue;
pub mod replay;
pub mod story;
pub mod tenants;
pub mod timers;
pub mod wait;

#[cfg(test)]
mod fixture;
