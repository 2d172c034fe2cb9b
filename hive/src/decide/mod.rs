//! Decisions: functions of values. Nothing here does I/O, reads a clock or draws random numbers.

pub mod admit;
pub mod agreement;
pub mod bounds;
pub mod fetch;
pub mod lateness;
pub mod listing;
pub mod mend;
pub mod ports;
pub mod restart;
pub mod rules;
pub mod strain;
pub mod timers;
pub mod worker;
