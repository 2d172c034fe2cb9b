//! The hive: the agent of one machine. It starts worker processes, watches them through the kernel and the bus, returns the
//! jobs of an exited worker to the queue, and publishes all of it. Step 3 of a job's path.
//!
//! [`supervisor`] is the one task that owns everything; [`decide`] decides what to do and does nothing itself.

mod config;
mod count;
pub mod decide;
pub mod http;
mod inventory;
mod launch;
mod ledger;
mod limits;
mod local;
mod metrics;
mod notify;
mod output;
mod probe;
mod process;
mod stop_request;
pub mod store;
mod supervisor;

pub use config::{HiveConfig, HiveError};
pub use ledger::LedgerError;
pub use local::LocalHive;
pub use process::{ExitStatus, Process};
pub use supervisor::run;
