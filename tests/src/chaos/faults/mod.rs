//! The faults, by the part of the fleet in which they are injected.

mod answer;
pub(super) mod hive;
pub(super) mod load;
pub(super) mod many;
pub(super) mod network;
pub(super) mod ports;
mod setup;
pub(super) mod stop;
pub(super) mod surroundings;
pub(super) mod worker;

pub use self::setup::TIMERS;
