//! Installs, upgrades and removes hives on other machines with the user's own ssh.
//!
//! A command inspects the machine, plans the steps from its state and the desired state, and executes them. A second
//! installation changes only what differs, and a failed step is rolled back. `docs/adr/0012` has the reasons.

mod commands;
mod execute;
mod inspection;
mod layout;
mod options;
mod plan;
mod programs;
mod script;
mod ssh;
mod unit;

pub(crate) use commands::RemoteHive;
