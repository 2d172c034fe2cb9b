//! Decisions: functions of values. Nothing here does I/O, reads a clock or draws at random.

pub mod ports;
pub mod restart;
pub mod worker;
