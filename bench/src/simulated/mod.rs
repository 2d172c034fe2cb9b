//! Hives and workers that exist on the bus alone. Their records, heartbeats, events and answers to commands come at the rate of
//! real ones, without any process behind them.
//!
//! They also subscribe as real ones do: each worker to its hive, and each hive to its workers. Pulls for jobs and tokens are
//! not simulated, because they do not concern the queen.

mod fleet;
mod hive;
mod size;
mod traffic;

pub use self::{fleet::SimulatedFleet, size::Size};
