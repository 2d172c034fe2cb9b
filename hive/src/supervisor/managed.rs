//! One worker of this hive: its state machine, and what the shell around that machine holds for it.

use std::time::Instant;

use rbee_nats::PortClaim;
use rbee_schema::{PortLease, WorkerRecord};

use super::trace::{self, SpawnSpan};
use crate::{
    decide::{
        admit::Need,
        rules::Rules,
        worker::{Effect, Event, Worker},
    },
    ledger::{LedgerEntry, Written},
    limits::WorkerCgroup,
    process::Process,
};

/// A worker and its resources.
pub(super) struct ManagedWorker {
    pub(super) worker: Worker,
    /// Lease document of the worker's port.
    pub(super) lease: PortLease,
    /// Present exactly while the worker has a process.
    pub(super) run: Option<RunningProcess>,
    /// Resources reserved for the worker, from its admission until its process has ended or its start has failed.
    pub(super) need: Option<Need>,
    /// Time of the last start, for the metric of how long it took until the worker was ready.
    pub(super) start_requested: Option<Instant>,
    /// Span of the first start, until the worker is ready or has failed.
    pub(super) spawn_span: Option<SpawnSpan>,
    /// Entry handed to the ledger last, and its confirmation.
    pub(super) recorded: Option<(LedgerEntry, Written)>,
    /// Record written to the registry last.
    pub(super) published: Option<WorkerRecord>,
}

/// The process of a worker, with everything that lives as long as it does.
pub(super) struct RunningProcess {
    pub(super) process: Process,
    /// Holds the process within its limits.
    pub(super) cgroup: WorkerCgroup,
    /// Claim on the lease of the port. `None` where another hive holds that lease although the worker serves on the port.
    pub(super) claim: Option<PortClaim>,
    /// Memory that the worker uses, in bytes, from its last heartbeat.
    pub(super) memory_used: u64,
}

impl RunningProcess {
    pub(super) fn new(process: Process, cgroup: WorkerCgroup, claim: Option<PortClaim>) -> Self {
        Self { process, cgroup, claim, memory_used: 0 }
    }
}

impl ManagedWorker {
    /// A worker without a process, of which nothing is recorded yet.
    pub(super) fn new(worker: Worker, lease: PortLease) -> Self {
        Self {
            worker,
            lease,
            run: None,
            need: None,
            start_requested: None,
            spawn_span: None,
            recorded: None,
            published: None,
        }
    }

    /// Lets the state machine handle `event`, and ends what ends with it: the reservation of a failed start, the span.
    pub(super) fn step(&mut self, event: Event, now: Instant, rules: &Rules) -> Vec<Effect> {
        if matches!(event, Event::NotStarted(_)) {
            self.need = None;
        }
        if let Some(outcome) = trace::outcome(&event)
            && let Some(span) = self.spawn_span.take()
        {
            span.end(&outcome);
        }
        let (worker, effects) = self.worker.clone().step(event, now, rules);
        self.worker = worker;
        effects
    }

    /// Drops the run and the reservation of a process that has ended.
    pub(super) fn drop_ended_run(&mut self) {
        if self.worker.pid().is_none() && self.run.take().is_some() {
            self.need = None;
        }
    }

    /// Memory reserved for the worker that it does not use yet, in bytes.
    pub(super) fn memory_unused(&self) -> u64 {
        let used = self.run.as_ref().map_or(0, |run| run.memory_used);
        self.need.map_or(0, |need| need.memory.saturating_sub(used))
    }

    /// The worker as the registry shows it.
    pub(super) fn record(&self) -> WorkerRecord {
        let limits = self.run.as_ref().and_then(|run| run.cgroup.in_force());
        WorkerRecord { limits, ..self.worker.record() }
    }

    /// The worker as the ledger keeps it.
    pub(super) fn ledger_entry(&self) -> LedgerEntry {
        let process = self.run.as_ref().filter(|_| self.worker.pid().is_some());
        LedgerEntry {
            model: self.worker.model.clone(),
            spec: self.worker.spec.clone(),
            record: self.record(),
            stop_reason: self.worker.stop_reason().map(str::to_owned),
            process: process.map(|run| run.process.identity.clone()),
            lease: self.lease.clone(),
        }
    }
}
