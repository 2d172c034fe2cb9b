//! Messages with which tasks report to the owner.

use std::io;

use rbee_nats::{FoundLease, PortClaim};
use rbee_schema::{Failure, FileRecord, ModelReference, PortLease, WorkerName};

use crate::{
    decide::{mend::Registered, worker::ProcessExit},
    launch::Launched,
};

/// Result of a task.
pub(super) enum Report {
    /// The model of a worker is on this machine, or cannot be.
    Provided {
        worker: WorkerName,
        epoch: u64,
        provided: Result<Provided, Failure>,
    },
    Fetched {
        reference: ModelReference,
        outcome: Result<FileRecord, Failure>,
    },
    FileRemoved {
        reference: ModelReference,
        outcome: Result<u64, Failure>,
    },
    Launched(WorkerName, Launched),
    Exited {
        worker: WorkerName,
        epoch: u64,
        exit: ProcessExit,
    },
    LeaseReleased(Release),
    LeaseRenewed(PortLease, PortClaim),
    /// Content of the key of a port that seemed to belong to nobody.
    LeaseFound {
        port: u16,
        found: FoundLease,
    },
    /// A record that names no worker of this hive is in the registry.
    RecordFound(WorkerName),
    /// Leases of this machine and records of this hive.
    Registered(Registered),
    /// The limits of a process could not be set.
    NotLimited {
        worker: WorkerName,
        pid: u32,
        error: io::Error,
    },
    /// Free space on the disk of the model files.
    DiskMeasured(io::Result<u64>),
    Health {
        worker: WorkerName,
        epoch: u64,
        healthy: bool,
    },
    Done,
}

/// A model that is on this machine.
pub(super) struct Provided {
    /// The file, or the test engine.
    pub(super) reference: ModelReference,
    /// Size of the file, where there is one.
    pub(super) bytes: Option<u64>,
    /// The store's record of a file from the hub.
    pub(super) record: Option<FileRecord>,
}

/// The release of a lease, done or given up.
pub(super) struct Release {
    pub(super) port: u16,
    pub(super) worker: WorkerName,
    /// Revision with which the port can be claimed again in one round trip; `None` where the release was given up.
    pub(super) revision: Option<u64>,
    pub(super) port_use: PortUse,
}

/// Use of a port after its lease was released.
pub(super) enum PortUse {
    /// The worker had the port, which is free now. With a reason, that is published.
    Freed(Option<String>),
    /// The hive's book has another use of the port by now, which the release does not change.
    Unchanged,
}
