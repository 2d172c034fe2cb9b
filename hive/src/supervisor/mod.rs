//! The owner task of a hive: it receives messages, lets [`decide`](crate::decide) decide, and carries out the decisions.
//! Step 3 of a job's path.
//!
//! Whatever takes time (fetching a model, starting a process, waiting for its exit, writing a file, a request to the bus) is
//! a task of its own that ends with a [`Report`](report::Report) to the owner. So nothing delays the notice of a dead worker.
//!
//! `state` has what the owner owns, `run` its loop. Each kind of message has a file that handles it: `commands`, `events`,
//! `reports`, `liveness`.

mod admission;
mod availability;
mod commands;
mod condition;
mod effects;
mod events;
mod files;
mod heartbeat;
mod hive;
mod launching;
mod leases;
mod liveness;
mod machine;
mod managed;
mod mending;
mod ports;
mod recover;
mod report;
mod reports;
mod returning;
mod run;
mod shutdown;
mod state;
mod timing;
mod trace;
mod watches;
mod workers;

pub use self::run::run;
