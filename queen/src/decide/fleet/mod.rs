//! What the queen knows: hives, workers and models, folded from what their registries and heartbeats tell.

mod demand;
mod hives;
mod orders;
mod views;
mod workers;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, SystemTime},
};

use rbee_schema::{
    Failure, FailureCode, FreeResources, HiveName, HiveRecord, JobId, JobInFlight, ModelName, ModelReference,
    ModelSpec, PromptCacheStats, QueenEvent, Tenant, WorkerName, WorkerPhase, WorkerRecord,
};

use crate::decide::{bounds::Bounds, held::Held, liveness::Liveness, queue::Queue, timers::Timers, touched::Touched};

/// Where a worker is and what it is called.
pub type WorkerKey = (HiveName, WorkerName);

/// Everything that is known at one moment.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// The hives that are there, and those that are lost and may return.
    pub hives: BTreeMap<HiveName, Hive>,
    /// The workers of all hives, those of absent hives too.
    pub workers: BTreeMap<WorkerKey, Worker>,
    /// The declared models.
    pub models: BTreeMap<ModelName, ModelSpec>,
    /// Declarations that have no effect, and why.
    pub refused: BTreeMap<ModelName, Failure>,
    /// Which model files hives have fetched.
    pub files: BTreeMap<HiveName, BTreeMap<String, ModelReference>>,
    /// Spawns that were commanded and of which nothing is heard yet.
    pub orders: BTreeMap<WorkerKey, Ordered>,
    /// Models with jobs that wait and nobody to run them.
    pub demand: BTreeMap<ModelName, Instant>,
    /// The jobs of each model that has had some.
    pub queues: BTreeMap<ModelName, Queue>,
    /// What could not be started and is left alone for now.
    pub held: Held,
    /// How long she waits for what.
    pub timers: Timers,
    /// What she bears.
    pub bounds: Bounds,
    /// What has changed since somebody looked.
    pub touched: Touched,
    /// The workers of each model, and its orders.
    by_model: BTreeMap<ModelName, BTreeSet<WorkerKey>>,
    /// What has happened and was not told yet.
    news: Vec<QueenEvent>,
}

/// One hive.
#[derive(Debug, Clone, PartialEq)]
pub struct Hive {
    /// What it says about itself.
    pub record: HiveRecord,
    /// Whether it is heard.
    pub liveness: Liveness,
    /// What it has left for further workers, as it last said.
    pub free: Option<FreeResources>,
    /// Whether its key is in the registry. Where it is not, the hive has ended in good order, or could not renew it.
    pub has_key: bool,
}

/// A spawn that was commanded.
#[derive(Debug, Clone, PartialEq)]
pub struct Ordered {
    /// For which model.
    pub model: ModelName,
    /// When.
    pub at: Instant,
    /// How long it is expected to take until the worker is ready.
    pub expected: Option<Duration>,
}

/// One worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// What its hive says about it.
    pub record: WorkerRecord,
    /// Since when that is so, by the server's clock.
    pub since: Option<SystemTime>,
    /// The jobs that it runs.
    pub jobs: Vec<JobInFlight>,
    /// Since when it runs each of them.
    begun: BTreeMap<(Tenant, JobId), Instant>,
    /// Jobs of it that were given back for it: a second time would take them from whoever has them now.
    returned: Vec<JobInFlight>,
    /// Tokens made since it started.
    pub tokens: u64,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
    /// What it remembers of prompts, where its engine does.
    pub cache: Option<PromptCacheStats>,
    /// When it was last heard itself.
    pub heard: Instant,
    /// Whether the server says that its connection is gone, and nothing was heard of it since.
    is_cut_off: bool,
    /// Since when it runs no job.
    pub idle_since: Instant,
    /// Since when it takes jobs.
    pub ready_since: Option<Instant>,
    /// When it was told to stop.
    pub told_to_stop: Option<Instant>,
    /// The order that it comes from, until it is ready.
    ordered: Option<Ordered>,
    /// Why it ends again and again, from its crash loop on until it is ready: a try now and then ends no loop.
    pub looping: Option<Failure>,
}

/// What is heard of a worker changes whether it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The number of workers that serve its model or will is as before.
    Same,
    /// It may be less: somebody should look whether jobs wait.
    Fewer,
}

/// What a heartbeat of a worker changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    /// Nothing that a decision follows from.
    Steady,
    /// Nobody knows who beats.
    Unknown,
    /// Jobs were taken or answered.
    JobsChanged,
}

impl Fleet {
    /// Nothing is known yet.
    pub fn new(timers: Timers, bounds: Bounds) -> Self {
        Self { timers, bounds, ..Self::default() }
    }

    /// What has happened since the last time that this was asked.
    pub fn news(&mut self) -> Vec<QueenEvent> {
        std::mem::take(&mut self.news)
    }
}

impl Worker {
    /// Whether it takes jobs and has none.
    pub fn is_idle(&self) -> bool {
        self.record.phase == WorkerPhase::Ready && self.jobs.is_empty()
    }

    /// Whether it serves or soon will.
    pub fn counts(&self) -> bool {
        counts(self.record.phase)
    }

    /// Whether it takes jobs.
    pub fn is_ready(&self) -> bool {
        self.record.phase == WorkerPhase::Ready
    }
}

fn is_of(job: &JobInFlight, (tenant, id): &(Tenant, JobId)) -> bool {
    job.tenant == *tenant && job.job == *id
}

fn ended_too_often(record: &WorkerRecord) -> Failure {
    Failure::new(FailureCode::CrashLoop, format!("it ended {} times in a row", record.exits))
}

/// Whether a worker serves or soon will. A suspect one does: nobody knows yet whether it is only slow.
fn counts(phase: WorkerPhase) -> bool {
    match phase {
        WorkerPhase::Requested
        | WorkerPhase::Spawning
        | WorkerPhase::Loading
        | WorkerPhase::Ready
        | WorkerPhase::Suspect
        | WorkerPhase::Backoff => true,
        WorkerPhase::Draining | WorkerPhase::Stopping | WorkerPhase::CrashLoop | WorkerPhase::Failed => false,
    }
}

fn has_process(phase: WorkerPhase) -> bool {
    match phase {
        WorkerPhase::Spawning
        | WorkerPhase::Loading
        | WorkerPhase::Ready
        | WorkerPhase::Suspect
        | WorkerPhase::Draining
        | WorkerPhase::Stopping => true,
        WorkerPhase::Requested | WorkerPhase::Backoff | WorkerPhase::CrashLoop | WorkerPhase::Failed => false,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
