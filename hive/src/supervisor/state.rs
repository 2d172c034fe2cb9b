//! Everything the owner task owns. The other files of this folder add what it does with it.

use tokio::task::JoinSet;

use super::{
    availability::Availability, condition::Condition, hive::Hive, machine::Machine, ports::Ports, report::Report,
    workers::Workers,
};
use crate::{decide::rules::Rules, ledger::LedgerWriter, limits::Enforcer, store::Store};

/// The owner of a hive's workers.
pub(super) struct Supervisor {
    pub(super) hive: Hive,
    /// Rules of the configuration, their timers stretched by how late the machine is.
    pub(super) rules: Rules,
    pub(super) ledger: LedgerWriter,
    pub(super) workers: Workers,
    pub(super) ports: Ports,
    pub(super) store: Store,
    pub(super) enforcer: Enforcer,
    pub(super) machine: Machine,
    pub(super) condition: Condition,
    pub(super) availability: Availability,
    /// Work that takes time. Each task ends with a [`Report`] to the owner.
    pub(super) tasks: JoinSet<Report>,
}
