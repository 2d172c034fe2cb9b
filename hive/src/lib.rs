//! The hive: the agent of one machine. It starts worker processes, watches them through the kernel and the bus, gives
//! back what a dead one held, and tells the bus all of it. Step 3 of a job's path.
//!
//! [`supervisor`] is the one task that owns everything; [`decide`] says what is to be done and does nothing itself.

pub mod decide;
mod launch;
mod output;
mod process;
mod recover;
mod supervisor;

pub use supervisor::{HiveConfig, HiveError, run};
