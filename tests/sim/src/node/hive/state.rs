//! The state of a hive, and what happens to it.

use std::{collections::BTreeMap, rc::Rc, time::Instant};

use rbee_hive::decide::{lateness::Lateness, mend::Registered, ports::PortBook, rules::Rules, worker::Worker};
use rbee_nats::CommandIssuer;
use rbee_schema::{HiveCommand, HiveName, PortLease, WorkerHeartbeat, WorkerName, WorkerRecord};

use super::ledger::{Entry, Machine};
use crate::{
    network::Connection,
    node::{
        child::{Child, ChildNews, Exit},
        outbox::Outbox,
        site::Site,
    },
    runtime::{Mailbox, Process},
    words::Report,
};

/// The process of a worker, and the claim on its port.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) child: Child,
    pub(super) port: u16,
    /// Revision of the lease. `None` where another hive has it.
    pub(super) revision: Option<u64>,
}

/// A worker and its resources.
#[derive(Debug)]
pub(super) struct Managed {
    pub(super) worker: Worker,
    pub(super) lease: PortLease,
    pub(super) run: Option<Run>,
    pub(super) published: Option<WorkerRecord>,
    /// True while room is reserved for it.
    pub(super) is_admitted: bool,
}

impl Managed {
    pub(super) fn new(worker: Worker, lease: PortLease) -> Self {
        Self { worker, lease, run: None, published: None, is_admitted: false }
    }
}

/// Outcome of a launch.
#[derive(Debug)]
pub(super) enum Launched {
    Running(Run),
    /// Another hive of the machine has leased the port.
    Held {
        port: u16,
        by: HiveName,
    },
    /// A program holds the port.
    Foreign {
        port: u16,
        revision: u64,
    },
    NotLeased {
        port: u16,
    },
}

/// Something that happened to a hive.
#[derive(Debug)]
pub(super) enum Event {
    Beat(WorkerName, Rc<(HiveName, WorkerName, WorkerHeartbeat)>),
    Report(WorkerName, u64, Report),
    News(WorkerName, u64, ChildNews),
    /// The process of a run has ended, and everything that it sent before has arrived.
    Exited(WorkerName, u64, Exit),
    Launched(WorkerName, Launched),
    Released {
        port: u16,
        worker: WorkerName,
        revision: Option<u64>,
        frees: bool,
    },
    Renewed {
        lease: PortLease,
        port: u16,
        revision: u64,
    },
    Lease {
        port: u16,
        lease: Option<PortLease>,
    },
    LeaseFound {
        port: u16,
        found: Option<(PortLease, u64)>,
    },
    RecordGone(WorkerName),
    RecordFound(WorkerName),
    Registered(Registered),
    Command(Rc<(HiveCommand, CommandIssuer)>),
    Leader(u64),
    Online(bool),
}

impl Event {
    /// Order in which events that are there together are handled, as the product's loop does.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Beat(..) => 0,
            Self::Exited(..)
            | Self::Launched(..)
            | Self::Released { .. }
            | Self::Renewed { .. }
            | Self::LeaseFound { .. }
            | Self::RecordFound(_)
            | Self::Registered(_) => 1,
            Self::Report(..) => 2,
            Self::News(..) => 3,
            Self::Leader(_) => 4,
            Self::Command(_) => 5,
            Self::Lease { .. } => 6,
            Self::RecordGone(_) => 7,
            Self::Online(_) => 8,
        }
    }
}

/// State of a hive.
pub(super) struct Supervisor {
    pub(super) site: Site,
    pub(super) machine: Machine,
    pub(super) process: Process,
    pub(super) connection: Connection,
    pub(super) outbox: Outbox,
    pub(super) mailbox: Mailbox<Event>,
    pub(super) epoch: u64,
    /// Rules, stretched while the machine is late.
    pub(super) rules: Rules,
    pub(super) workers: BTreeMap<WorkerName, Managed>,
    pub(super) book: PortBook,
    pub(super) lateness: Lateness,
    pub(super) ticked: Instant,
    pub(super) is_online: bool,
}

impl Supervisor {
    pub(super) fn lease_for(&self, worker: &WorkerName) -> PortLease {
        PortLease { hive: self.machine.hive.clone(), hive_epoch: self.epoch, worker: worker.clone() }
    }

    /// Writes the entry of a worker into the ledger.
    pub(super) fn record(&self, name: &WorkerName) {
        let Some(managed) = self.workers.get(name) else { return };
        let entry = Entry {
            model: managed.worker.model.clone(),
            spec: managed.worker.spec.clone(),
            record: managed.worker.record(),
            stop_reason: managed.worker.stop_reason().map(str::to_owned),
            has_process: managed.run.is_some() && managed.worker.pid().is_some(),
            lease: managed.lease.clone(),
        };
        self.machine.ledger.borrow_mut().entries.insert(name.clone(), entry);
    }

    pub(super) fn record_key(&self, worker: &WorkerName) -> String {
        format!("workers.{}.{worker}", self.machine.hive)
    }
}
