//! Decisions: functions of values. Nothing here does I/O, reads a clock or draws at random.

pub mod fleet;
pub mod held;
pub mod place;
pub mod scale;

#[cfg(test)]
mod fixture;
