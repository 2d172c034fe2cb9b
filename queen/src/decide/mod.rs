//! Decisions: functions of values. Nothing here does I/O, reads a clock or draws at random.

pub mod alert;
pub mod bounds;
pub mod fleet;
pub mod held;
pub mod liveness;
pub mod place;
pub mod queue;
pub mod replace;
pub mod scale;
pub mod timers;
pub mod touched;

#[cfg(test)]
mod fixture;
