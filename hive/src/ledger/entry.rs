//! The ledger's entry of one worker.

use rbee_schema::{ModelName, ModelSpec, PortLease, WorkerRecord};
use serde::{Deserialize, Serialize};

use crate::process::{Identity, Process};

/// Everything a later run of the hive needs to take a worker over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LedgerEntry {
    pub(crate) model: ModelName,
    pub(crate) spec: ModelSpec,
    pub(crate) record: WorkerRecord,
    /// Reason to stop; `None` while the worker is to run.
    #[serde(default, alias = "unwanted")]
    pub(crate) stop_reason: Option<String>,
    /// Identity of the worker's process, while there is one.
    #[serde(default)]
    pub(crate) process: Option<Identity>,
    /// Lease of the worker's port, as it was written.
    pub(crate) lease: PortLease,
}

impl LedgerEntry {
    /// The worker's process, where it still runs.
    pub(crate) fn running(&self) -> Option<Process> {
        let identity = self.process.as_ref()?;
        Process::open(identity.pid).ok().filter(|process| process.identity == *identity)
    }
}
