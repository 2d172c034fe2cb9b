//! A hive: it starts worker processes, watches them, and returns the jobs of those that end, as `hive/src/supervisor/` does.

mod effects;
mod launch;
mod leases;
mod ledger;
mod recover;
mod returning;
mod run;
mod state;

pub use self::{ledger::Machine, run::Hive};
