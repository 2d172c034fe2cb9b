//! What the queen knows: hives, workers and models, folded from what their registries and heartbeats tell.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rbee_schema::{
    Failure, FailureCode, HiveName, HiveRecord, JobInFlight, ModelName, ModelSpec, WorkerBeat, WorkerName, WorkerPhase,
    WorkerRecord,
};

use crate::decide::held::Held;

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
    /// What could not be started and is left alone for now.
    pub held: Held,
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

impl Fleet {
    /// A hive is there.
    pub fn hive_is_there(&mut self, hive: HiveName, record: HiveRecord) {
        if self.hives.get(&hive).is_some_and(|before| before.epoch != record.epoch) {
            // Another run: its machine may have been mended meanwhile.
            self.held.forget_hive(&hive);
        }
        self.hives.insert(hive, record);
    }

    /// A hive is gone.
    pub fn hive_is_gone(&mut self, hive: &HiveName) -> Change {
        self.orders.retain(|(at, _), _| at != hive);
        self.held.forget_hive(hive);
        if self.hives.remove(hive).is_some() { Change::Fewer } else { Change::Same }
    }

    /// A hive told about a worker.
    pub fn worker_is(&mut self, key: WorkerKey, record: WorkerRecord, now: Instant) -> Change {
        self.orders.remove(&key);
        let hive = key.0.clone();
        let worker = self.workers.entry(key).or_insert_with(|| Worker {
            record: record.clone(),
            jobs: Vec::new(),
            tokens: 0,
            memory_bytes: 0,
            idle_since: now,
            told_to_stop: false,
            looping: None,
        });
        let counted = counts(worker.record.phase);
        if record.phase == WorkerPhase::Ready && worker.record.phase != WorkerPhase::Ready {
            worker.idle_since = now;
            self.held.worked(&hive, &record.model);
            self.demand.remove(&record.model);
        }
        if !has_process(record.phase) {
            worker.jobs.clear();
        }
        worker.looping = match record.phase {
            WorkerPhase::CrashLoop => Some(record.failure.clone().unwrap_or_else(|| ended_too_often(&record))),
            WorkerPhase::Ready | WorkerPhase::Failed => None,
            WorkerPhase::Requested
            | WorkerPhase::Spawning
            | WorkerPhase::Loading
            | WorkerPhase::Suspect
            | WorkerPhase::Draining
            | WorkerPhase::Stopping
            | WorkerPhase::Backoff => worker.looping.take(),
        };
        if let (WorkerPhase::Failed, Some(failure)) = (record.phase, &record.failure) {
            self.held.failed(&hive, &record.model, failure, now);
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
        self.held.forget_model(&model);
        self.models.insert(model, spec);
    }

    /// A model is no longer declared.
    pub fn model_is_gone(&mut self, model: &ModelName) {
        self.models.remove(model);
        self.demand.remove(model);
        self.held.forget_model(model);
    }

    /// Somebody asks for a model: a job was queued.
    pub fn job_waits(&mut self, model: &ModelName, now: Instant) {
        // While somebody waits already, the hives are tried one after the other, each of them once.
        if !self.demand.contains_key(model) {
            self.held.asked_again(model);
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

    /// The worker that ends again and again on a hive, and why.
    pub fn looping_on(&self, hive: &HiveName, model: &ModelName) -> Option<(&WorkerName, &Failure)> {
        let here = self.workers.iter().filter(|((at, _), worker)| at == hive && worker.record.model == *model);
        here.filter_map(|((_, name), worker)| Some((name, worker.looping.as_ref()?))).next()
    }

    /// How many workers a hive runs or was commanded to.
    pub fn load(&self, hive: &HiveName) -> usize {
        let runs = self.workers.iter().filter(|((at, _), worker)| at == hive && has_process(worker.record.phase));
        runs.count() + self.orders.keys().filter(|(at, _)| at == hive).count()
    }
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
