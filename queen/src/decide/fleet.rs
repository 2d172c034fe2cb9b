//! What the queen knows: hives, workers and models, folded from what their registries and heartbeats tell.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rbee_schema::{
    Failure, HiveName, HiveRecord, JobInFlight, ModelName, ModelSpec, WorkerBeat, WorkerName, WorkerPhase, WorkerRecord,
};

/// A commanded spawn of which nothing was heard for this long is no longer counted on: the hive never got it.
const ORDER_PATIENCE: Duration = Duration::from_secs(30);

/// Where a worker is and what it is called.
pub type WorkerKey = (HiveName, WorkerName);

/// Everything that is known at one moment.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// The hives that are there.
    pub hives: BTreeMap<HiveName, HiveRecord>,
    /// The workers of all hives, those of absent hives too.
    pub workers: BTreeMap<WorkerKey, Worker>,
    /// The declared models.
    pub models: BTreeMap<ModelName, ModelSpec>,
    /// Spawns that were commanded and of which nothing is heard yet, and since when.
    pub orders: BTreeMap<WorkerKey, (ModelName, Instant)>,
    /// Models with jobs that wait and nobody to run them.
    pub demand: BTreeMap<ModelName, Instant>,
    /// Models that could not be started, until when they are left alone, and why.
    pub held_off: BTreeMap<ModelName, HeldOff>,
}

/// One worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// What its hive says about it.
    pub record: WorkerRecord,
    /// The jobs that it runs.
    pub jobs: Vec<JobInFlight>,
    /// Tokens made since it started.
    pub tokens: u64,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
    /// Since when it runs no job.
    pub idle_since: Instant,
    /// Whether it was told to stop.
    pub told_to_stop: bool,
}

/// A model that is not to be started for now.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOff {
    /// Until when; `None` for until somebody asks for it again.
    pub until: Option<Instant>,
    /// Why.
    pub failure: Failure,
}

/// What is heard of a worker changes whether it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The number of workers that serve its model or will is as before.
    Same,
    /// It may be less: somebody should look whether jobs wait.
    Fewer,
}

impl Fleet {
    /// A hive is there.
    pub fn hive_is_there(&mut self, hive: HiveName, record: HiveRecord) {
        self.hives.insert(hive, record);
    }

    /// A hive is gone.
    pub fn hive_is_gone(&mut self, hive: &HiveName) -> Change {
        self.orders.retain(|(at, _), _| at != hive);
        if self.hives.remove(hive).is_some() { Change::Fewer } else { Change::Same }
    }

    /// A hive told about a worker.
    pub fn worker_is(&mut self, key: WorkerKey, record: WorkerRecord, now: Instant) -> Change {
        self.orders.remove(&key);
        let worker = self.workers.entry(key).or_insert_with(|| Worker {
            record: record.clone(),
            jobs: Vec::new(),
            tokens: 0,
            memory_bytes: 0,
            idle_since: now,
            told_to_stop: false,
        });
        let counted = counts(worker.record.phase);
        if record.phase == WorkerPhase::Ready && worker.record.phase != WorkerPhase::Ready {
            worker.idle_since = now;
            self.held_off.remove(&record.model);
            self.demand.remove(&record.model);
        }
        if !has_process(record.phase) {
            worker.jobs.clear();
        }
        if let (WorkerPhase::Failed, Some(failure)) = (record.phase, &record.failure) {
            // A failure that may pass is tried again soon; another one when somebody asks for the model again.
            let until = failure.retryable.then(|| now + RETRY);
            self.held_off.insert(record.model.clone(), HeldOff { until, failure: failure.clone() });
        }
        worker.record = record;
        if counted && !counts(worker.record.phase) { Change::Fewer } else { Change::Same }
    }

    /// A worker is gone.
    pub fn worker_is_gone(&mut self, key: &WorkerKey) -> Change {
        if self.workers.remove(key).is_some() { Change::Fewer } else { Change::Same }
    }

    /// A worker told what it runs.
    pub fn worker_beats(&mut self, key: &WorkerKey, beat: WorkerBeat, now: Instant) {
        let Some(worker) = self.workers.get_mut(key) else { return };
        if beat.epoch != worker.record.epoch {
            return;
        }
        if !(worker.jobs.is_empty() && beat.jobs.is_empty()) {
            worker.idle_since = now;
        }
        worker.jobs = beat.jobs;
        worker.tokens = beat.tokens;
        worker.memory_bytes = beat.memory_bytes;
    }

    /// A model is declared, or declared anew.
    pub fn model_is(&mut self, model: ModelName, spec: ModelSpec) {
        self.held_off.remove(&model);
        self.models.insert(model, spec);
    }

    /// A model is no longer declared.
    pub fn model_is_gone(&mut self, model: &ModelName) {
        self.models.remove(model);
        self.demand.remove(model);
        self.held_off.remove(model);
    }

    /// Somebody asks for a model: a job was queued.
    pub fn job_waits(&mut self, model: &ModelName, now: Instant) {
        // What failed for good may have been mended since somebody asked last.
        if self.held_off.get(model).is_some_and(|held| held.until.is_none()) {
            self.held_off.remove(model);
        }
        self.jobs_found(model, now);
    }

    /// Jobs of a model were found in the queue. Where a worker is ready it takes them; else they are a demand.
    pub fn jobs_found(&mut self, model: &ModelName, now: Instant) {
        let is_served = self.serving(model).any(|(_, worker)| worker.record.phase == WorkerPhase::Ready);
        if !is_served {
            self.demand.entry(model.clone()).or_insert(now);
        }
    }

    /// The jobs that waited for a model were answered otherwise.
    pub fn demand_is_over(&mut self, model: &ModelName) {
        self.demand.remove(model);
    }

    /// A spawn was commanded.
    pub fn ordered(&mut self, key: WorkerKey, model: ModelName, now: Instant) {
        self.orders.insert(key, (model, now));
    }

    /// A worker was told to stop.
    pub fn told_to_stop(&mut self, key: &WorkerKey) {
        if let Some(worker) = self.workers.get_mut(key) {
            worker.told_to_stop = true;
        }
    }

    /// Forgets what is over: orders of which nothing was heard.
    pub fn forget_stale_orders(&mut self, now: Instant) {
        self.orders.retain(|_, (_, since)| now < *since + ORDER_PATIENCE);
    }

    /// When the next order of which nothing was heard is stale.
    pub fn next_stale_order(&self) -> Option<Instant> {
        self.orders.values().map(|(_, since)| *since + ORDER_PATIENCE).min()
    }

    /// The workers that serve a model or soon will; those of absent hives do not count.
    pub fn serving<'a>(&'a self, model: &'a ModelName) -> impl Iterator<Item = (&'a WorkerKey, &'a Worker)> {
        self.workers.iter().filter(move |((hive, _), worker)| {
            worker.record.model == *model
                && counts(worker.record.phase)
                && !worker.told_to_stop
                && self.hives.contains_key(hive)
        })
    }

    /// How many workers serve a model, soon will, or were commanded.
    pub fn capacity(&self, model: &ModelName) -> u32 {
        let ordered = self.orders.values().filter(|(ordered, _)| ordered == model).count();
        u32::try_from(self.serving(model).count() + ordered).unwrap_or(u32::MAX)
    }

    /// How many workers a hive runs or was commanded to.
    pub fn load(&self, hive: &HiveName) -> usize {
        let runs = self.workers.iter().filter(|((at, _), worker)| at == hive && has_process(worker.record.phase));
        runs.count() + self.orders.keys().filter(|(at, _)| at == hive).count()
    }
}

/// A model whose start failed for a reason that may pass is tried again after this long.
const RETRY: Duration = Duration::from_secs(5);

/// Whether a worker serves or soon will.
fn counts(phase: WorkerPhase) -> bool {
    match phase {
        WorkerPhase::Requested
        | WorkerPhase::Spawning
        | WorkerPhase::Loading
        | WorkerPhase::Ready
        | WorkerPhase::Backoff => true,
        WorkerPhase::Draining | WorkerPhase::Stopping | WorkerPhase::Failed => false,
    }
}

fn has_process(phase: WorkerPhase) -> bool {
    match phase {
        WorkerPhase::Spawning
        | WorkerPhase::Loading
        | WorkerPhase::Ready
        | WorkerPhase::Draining
        | WorkerPhase::Stopping => true,
        WorkerPhase::Requested | WorkerPhase::Backoff | WorkerPhase::Failed => false,
    }
}
