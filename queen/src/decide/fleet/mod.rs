//! The queen's view of the fleet: hives, workers, models and their jobs.
//!
//! The view is built from registry entries, heartbeats and notices. Each method that takes an input updates the view, marks
//! what must be planned again ([`Dirty`]), and returns the [`Effect`]s that the controller carries out.

mod clock;
mod commands;
mod hives;
mod jobs;
mod models;
mod table;
mod views;
mod worker;
mod workers;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use rbee_schema::{Failure, FreeResources, HiveName, HiveRecord, ModelName, ModelReference, ModelSpec, QueenEvent};

use self::table::WorkerTable;
pub use self::worker::{PendingSpawn, RunningJobs, Worker, WorkerKey, WorkerUsage};
use crate::decide::{
    backoff::Backoffs,
    dirty::{Dirty, Scope},
    limits::QueenLimits,
    liveness::Liveness,
    queue::Queue,
    timers::Timers,
};

/// Everything the queen knows at one moment.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// Hives that are connected, and lost ones that may return.
    hives: BTreeMap<HiveName, Hive>,
    /// Workers of all hives, and spawns that were commanded.
    table: WorkerTable,
    models: Models,
    /// Model files that each hive has fetched, by registry key.
    files: BTreeMap<HiveName, BTreeMap<String, ModelReference>>,
    jobs: Jobs,
    backoffs: Backoffs,
    timers: Timers,
    limits: QueenLimits,
    dirty: Dirty,
}

/// Declarations in the bucket of models.
#[derive(Debug, Clone, Default)]
struct Models {
    declared: BTreeMap<ModelName, ModelSpec>,
    /// Invalid declarations, with the reason.
    refused: BTreeMap<ModelName, Failure>,
}

/// Jobs of all models.
#[derive(Debug, Clone, Default)]
struct Jobs {
    /// Queue of each model that has had jobs.
    queues: BTreeMap<ModelName, Queue>,
    /// Models with jobs and no ready worker, and since when.
    demand: BTreeMap<ModelName, Instant>,
}

/// One hive.
#[derive(Debug, Clone, PartialEq)]
pub struct Hive {
    /// Record that the hive wrote about itself.
    pub record: HiveRecord,
    /// Presence of the hive, from its heartbeats.
    pub liveness: Liveness,
    /// Capacity left for more workers, as of the last heartbeat that named it.
    pub free: Option<FreeResources>,
    /// False once the hive's registry key is gone: the hive has stopped, or could not renew the key.
    pub has_key: bool,
}

/// Work that follows from an input and is carried out by the controller.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Publish an event, if this queen leads.
    Publish(QueenEvent),
    /// Count the job queue: capacity may have gone, and a job that waits may have no worker left.
    CountQueue,
    /// Delete the registry record of a worker whose hive was removed, if this queen leads.
    DeleteRecord(WorkerKey),
}

/// Consequence of a worker's heartbeat for planning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartbeatOutcome {
    /// Nothing that a decision depends on has changed.
    Unchanged,
    /// The worker is not in the registry.
    UnknownWorker,
    /// The worker took or finished jobs.
    JobsChanged,
}

impl Fleet {
    /// An empty fleet.
    pub fn new(timers: Timers, limits: QueenLimits) -> Self {
        Self { timers, limits, ..Self::default() }
    }

    /// Timeouts and intervals of the queen.
    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Limits of the queen.
    pub fn limits(&self) -> &QueenLimits {
        &self.limits
    }

    /// True if something has changed since the last planning pass.
    pub fn needs_planning(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Marks everything as changed.
    pub fn mark_everything(&mut self) {
        self.dirty.mark_everything();
    }

    /// Models to plan now. Clears the marks.
    pub fn take_scope(&mut self) -> Scope {
        self.dirty.take()
    }

    /// Records that `scope` was planned and that something is left to be done for the models `pending`.
    pub fn planned(&mut self, scope: &Scope, pending: BTreeSet<ModelName>) {
        self.dirty.planned(scope, pending);
    }
}
