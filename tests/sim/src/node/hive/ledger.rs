//! The ledger of a hive, which outlives its process.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use rbee_schema::{HiveName, HostName, ModelName, ModelSpec, PortLease, WorkerName, WorkerPhase, WorkerRecord};

/// Entry of a worker.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) model: ModelName,
    pub(super) spec: ModelSpec,
    pub(super) record: WorkerRecord,
    pub(super) stop_reason: Option<String>,
    /// True if the worker has a process.
    pub(super) has_process: bool,
    pub(super) lease: PortLease,
}

/// Content of a ledger.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) entries: BTreeMap<WorkerName, Entry>,
    pub(super) epoch: u64,
    /// Highest term of a queen that the hive has seen.
    pub(super) term: u64,
}

/// The machine of a hive: its name and its disk. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Name of the hive.
    pub hive: HiveName,
    /// Name of the machine. Several hives of one machine share its ports.
    pub host: HostName,
    /// Ports that the hives of this machine may use.
    pub ports: (u16, u16),
    pub(super) ledger: Rc<RefCell<Ledger>>,
}

impl Machine {
    /// A machine without a history.
    pub fn new(hive: HiveName, host: HostName, ports: (u16, u16)) -> Self {
        Self { hive, host, ports, ledger: Rc::default() }
    }

    /// Workers that their hive has given up.
    pub fn failed(&self) -> Vec<WorkerName> {
        let ledger = self.ledger.borrow();
        let failed = ledger.entries.iter().filter(|(_, entry)| entry.record.phase == WorkerPhase::Failed);
        failed.map(|(name, _)| name.clone()).collect()
    }
}
