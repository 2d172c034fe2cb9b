//! What the queen knows: hives, workers and models, folded from what their registries and heartbeats tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, SystemTime},
};

use rbee_schema::{
    Failure, FailureCode, HiveBeat, HiveName, HiveRecord, JobId, JobInFlight, ModelName, ModelReference, ModelSpec,
    QueenEvent, Room, Tenant, WorkerBeat, WorkerName, WorkerPhase, WorkerRecord,
};

use crate::decide::{
    held::Held,
    liveness::{Liveness, Presence, Turn},
    queue::Queue,
    timers::Timers,
    touched::{Scope, Touched},
};

/// So many declarations that have no effect are remembered and told: more come from no person.
pub const REFUSED: usize = 1_000;

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
    pub room: Option<Room>,
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
    pub fn new(timers: Timers) -> Self {
        Self { timers, ..Self::default() }
    }

    /// What has happened since the last time that this was asked.
    pub fn news(&mut self) -> Vec<QueenEvent> {
        std::mem::take(&mut self.news)
    }

    // Hives.

    /// A hive tells about itself.
    pub fn hive_is_there(&mut self, hive: HiveName, record: HiveRecord, now: Instant) -> Change {
        if self.hives.get(&hive).is_some_and(|before| before.record.epoch != record.epoch) {
            // Another run: its machine may have been mended meanwhile.
            self.held.forget_hive(&hive);
        }
        match self.hives.get_mut(&hive) {
            Some(known) => {
                if known.record != record {
                    self.touched.everything();
                    known.record = record;
                }
                self.hear_hive(&hive, now)
            }
            None => {
                self.touched.everything();
                self.hives.insert(hive, Hive { record, liveness: Liveness::new(now), room: None });
                Change::Same
            }
        }
    }

    /// A hive beats.
    pub fn hive_beats(&mut self, hive: &HiveName, beat: &HiveBeat, now: Instant) -> Change {
        let Some(known) = self.hives.get_mut(hive).filter(|known| known.record.epoch == beat.epoch) else {
            return Change::Same;
        };
        let free = |room: Option<Room>| room.map_or(0, |room| room.memory);
        if free(beat.room) > free(known.room) {
            self.touched.room();
        }
        known.room = beat.room.or(known.room);
        self.hear_hive(hive, now)
    }

    fn hear_hive(&mut self, hive: &HiveName, now: Instant) -> Change {
        let Some(known) = self.hives.get_mut(hive) else { return Change::Same };
        let Some(silence) = known.liveness.hear(now) else { return Change::Same };
        let epoch = known.record.epoch;
        self.touched.everything();
        self.news.push(QueenEvent::HiveReturned { hive: hive.clone(), epoch, silent_ms: millis(silence) });
        Change::Fewer
    }

    /// The key of a hive is gone: it has ended in good order, or it was not renewed.
    pub fn hive_is_gone(&mut self, hive: &HiveName) -> Change {
        match self.hives.get(hive).map(|known| known.liveness.presence()) {
            // It has been silent for long already, and may return.
            Some(Presence::Lost | Presence::Suspect) | None => Change::Same,
            Some(Presence::Online) => {
                self.forget_hive(hive);
                Change::Fewer
            }
        }
    }

    /// The server says that the connection of a hive is gone.
    pub fn hive_is_disconnected(&mut self, hive: &HiveName) {
        let turn = self.hives.get_mut(hive).and_then(|known| known.liveness.disconnected());
        if turn.is_some() {
            self.touched.everything();
            let why = "its connection to the bus is gone".to_owned();
            self.news.push(QueenEvent::HiveSuspected { hive: hive.clone(), why });
        }
    }

    /// The server says that the connection of a worker is gone. Its hive says more of it, unless that is gone too.
    pub fn worker_is_disconnected(&mut self, key: &WorkerKey) {
        if let Some(worker) = self.workers.get_mut(key) {
            worker.is_cut_off = true;
        }
    }

    fn forget_hive(&mut self, hive: &HiveName) {
        self.touched.everything();
        self.hives.remove(hive);
        self.files.remove(hive);
        self.held.forget_hive(hive);
        let orders: Vec<WorkerKey> = self.orders.keys().filter(|(at, _)| at == hive).cloned().collect();
        for key in orders {
            self.forget_order(&key);
        }
    }

    /// What time alone has changed. Returns the workers of hives that are not expected any more: they are forgotten, and
    /// their records are to be removed.
    pub fn pass(&mut self, now: Instant) -> (Change, Vec<WorkerKey>) {
        let (mut change, mut gone) = (Change::Same, Vec::new());
        let turns: Vec<(HiveName, Turn, Duration)> = self
            .hives
            .iter_mut()
            .filter_map(|(name, hive)| {
                let turn = hive.liveness.pass(now, &self.timers)?;
                Some((name.clone(), turn, hive.liveness.silence(now)))
            })
            .collect();
        for (hive, turn, silence) in turns {
            self.touched.everything();
            match turn {
                Turn::Suspected => {
                    let why = format!("no heartbeat for {silence:.1?}");
                    self.news.push(QueenEvent::HiveSuspected { hive, why });
                }
                Turn::Lost => {
                    change = Change::Fewer;
                    let workers = number(self.workers_of(&hive).count());
                    self.news.push(QueenEvent::HiveLost { hive: hive.clone(), workers, silent_ms: millis(silence) });
                }
                Turn::Removed => {
                    change = Change::Fewer;
                    let workers: Vec<WorkerKey> = self.workers_of(&hive).map(|(key, _)| key.clone()).collect();
                    let count = number(workers.len());
                    self.news.push(QueenEvent::HiveRemoved { hive: hive.clone(), workers: count });
                    self.forget_hive(&hive);
                    for key in &workers {
                        self.worker_is_gone(key);
                    }
                    gone.extend(workers);
                }
            }
        }
        (change, gone)
    }

    /// The queen herself could hear nothing until now.
    pub fn was_deaf(&mut self, now: Instant) {
        self.touched.everything();
        for hive in self.hives.values_mut() {
            hive.liveness.excuse(now);
        }
        for worker in self.workers.values_mut() {
            worker.heard = now;
        }
    }

    /// A hive has fetched a model file.
    pub fn file_is(&mut self, hive: HiveName, key: String, reference: ModelReference) {
        self.files.entry(hive).or_default().insert(key, reference);
    }

    /// A hive has deleted a model file.
    pub fn file_is_gone(&mut self, hive: &HiveName, key: &str) {
        if let Some(files) = self.files.get_mut(hive) {
            files.remove(key);
        }
    }

    /// Whether a hive has a model file, as far as is known.
    pub fn has_file(&self, hive: &HiveName, reference: &ModelReference) -> bool {
        self.files.get(hive).is_some_and(|files| files.values().any(|found| found == reference))
    }

    /// Whether a hive is there: not lost.
    pub fn is_there(&self, hive: &HiveName) -> bool {
        self.hives.get(hive).is_some_and(|known| known.liveness.presence() != Presence::Lost)
    }

    // Workers.

    /// A hive told about a worker.
    pub fn worker_is(&mut self, key: WorkerKey, record: WorkerRecord, now: Instant) -> Change {
        let ordered = self.orders.remove(&key);
        let hive = key.0.clone();
        self.touched.model(&record.model);
        if !has_process(record.phase) {
            self.touched.room();
        }
        self.by_model.entry(record.model.clone()).or_default().insert(key.clone());
        let worker = self.workers.entry(key.clone()).or_insert_with(|| Worker {
            record: record.clone(),
            since: None,
            jobs: Vec::new(),
            begun: BTreeMap::new(),
            returned: Vec::new(),
            tokens: 0,
            memory_bytes: 0,
            heard: now,
            is_cut_off: false,
            idle_since: now,
            ready_since: None,
            told_to_stop: None,
            ordered,
            looping: None,
        });
        let counted = counts(worker.record.phase);
        let was_ready = worker.is_ready() && worker.ready_since.is_some();
        if record.phase == WorkerPhase::Ready && !was_ready {
            worker.ready_since = worker.ready_since.or(Some(now));
            worker.heard = now;
            worker.idle_since = now;
            self.held.worked(&hive, &record.model);
            self.demand.remove(&record.model);
            if let Some(Ordered { model, at, expected }) = worker.ordered.take() {
                let took = now.saturating_duration_since(at);
                self.queues.entry(model.clone()).or_default().started(took);
                let (expected_ms, took_ms) = (expected.map(millis), millis(took));
                self.news.push(QueenEvent::Fulfilled { model, hive: key.0, worker: key.1, expected_ms, took_ms });
            }
        }
        if !has_process(record.phase) {
            worker.ready_since = None;
            worker.jobs.clear();
            worker.begun.clear();
            worker.returned.clear();
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
            self.held.failed(&hive, &record.model, failure, now + self.timers.retry);
        }
        worker.record = record;
        if counted && !counts(worker.record.phase) { Change::Fewer } else { Change::Same }
    }

    /// When the server stored what is known of a worker.
    pub fn worker_is_so_since(&mut self, key: &WorkerKey, stored: SystemTime) {
        if let Some(worker) = self.workers.get_mut(key) {
            worker.since = Some(stored);
        }
    }

    /// A worker is gone.
    pub fn worker_is_gone(&mut self, key: &WorkerKey) -> Change {
        let Some(worker) = self.workers.remove(key) else { return Change::Same };
        self.forget_key(&worker.record.model, key);
        // What was never started has left no room.
        if has_process(worker.record.phase) {
            self.held.has_room(&key.0);
        }
        self.touched.model(&worker.record.model);
        self.touched.room();
        Change::Fewer
    }

    /// A worker told what it runs.
    pub fn worker_beats(&mut self, key: &WorkerKey, beat: WorkerBeat, now: Instant) -> Pulse {
        let Some(worker) = self.workers.get_mut(key) else { return Pulse::Unknown };
        if worker.record.epoch != beat.epoch {
            return Pulse::Steady;
        }
        (worker.heard, worker.is_cut_off) = (now, false);
        if !(worker.jobs.is_empty() && beat.jobs.is_empty()) {
            worker.idle_since = now;
        }
        let has_changed = worker.jobs != beat.jobs;
        if has_changed {
            self.touched.model(&worker.record.model);
            if beat.jobs.is_empty() {
                self.touched.room();
            }
            let queue = self.queues.entry(worker.record.model.clone()).or_default();
            let ended: Vec<(Tenant, JobId)> =
                worker.begun.keys().filter(|id| !beat.jobs.iter().any(|job| is_of(job, id))).cloned().collect();
            for id in ended {
                if let Some(begun) = worker.begun.remove(&id) {
                    queue.answered(now.saturating_duration_since(begun));
                }
            }
            let mut taken = 0;
            for job in &beat.jobs {
                worker.begun.entry((job.tenant.clone(), job.job.clone())).or_insert_with(|| {
                    taken += 1;
                    now
                });
            }
            queue.taken(taken, now);
        }
        worker.returned.retain(|job| beat.jobs.contains(job));
        worker.jobs = beat.jobs;
        worker.tokens = beat.tokens;
        worker.memory_bytes = beat.memory_bytes;
        if has_changed { Pulse::JobsChanged } else { Pulse::Steady }
    }

    /// The jobs of workers that are gone with their hive: neither of them is heard. They are to be given back, once.
    pub fn stranded(&mut self, now: Instant) -> Vec<(WorkerKey, Vec<JobInFlight>)> {
        let mut stranded = Vec::new();
        let patience = self.timers.suspect;
        for (key, worker) in &mut self.workers {
            let is_heard = self.hives.get(&key.0).is_some_and(|hive| hive.liveness.presence() == Presence::Online);
            let is_silent = worker.is_cut_off || now >= worker.heard + patience;
            if is_heard || worker.jobs.is_empty() || !is_silent {
                continue;
            }
            let jobs: Vec<JobInFlight> =
                worker.jobs.iter().filter(|job| !worker.returned.contains(job)).cloned().collect();
            if !jobs.is_empty() {
                worker.returned.extend(jobs.iter().cloned());
                stranded.push((key.clone(), jobs));
            }
        }
        stranded
    }

    /// When [`Fleet::stranded`] may find somebody although nothing is heard.
    fn next_stranded(&self) -> impl Iterator<Item = Instant> {
        let silent = self.hives.iter().filter(|(_, hive)| hive.liveness.presence() != Presence::Online);
        silent.flat_map(|(hive, _)| self.workers_of(hive)).filter_map(|(_, worker)| {
            let is_open = worker.jobs.iter().any(|job| !worker.returned.contains(job));
            is_open.then_some(worker.heard + self.timers.suspect)
        })
    }

    /// When the fleet may have changed although nothing was heard.
    pub fn next_change(&self) -> impl Iterator<Item = Instant> {
        let hives = self.hives.values().map(|hive| hive.liveness.deadline(&self.timers));
        let orders = self.orders.values().map(|order| order.at + self.timers.order);
        hives.chain(orders).chain(self.next_stranded())
    }

    // Models.

    /// A model is declared, or declared anew. Returns how it was declared before.
    pub fn model_is(&mut self, model: ModelName, spec: ModelSpec) -> Option<ModelSpec> {
        self.touched.model(&model);
        self.touched.room();
        self.held.forget_model(&model);
        self.refused.remove(&model);
        self.models.insert(model, spec)
    }

    /// A model is no longer declared.
    pub fn model_is_gone(&mut self, model: &ModelName) {
        self.touched.model(model);
        self.touched.room();
        self.models.remove(model);
        self.refused.remove(model);
        self.demand.remove(model);
        self.queues.remove(model);
        self.held.forget_model(model);
    }

    /// What stands in the bucket is no declaration: it has no effect. Returns whether that is worth telling: it was not
    /// refused for the same reason before, and not too many others are.
    pub fn model_is_refused(&mut self, model: ModelName, failure: Failure) -> bool {
        if self.refused.get(&model) == Some(&failure) {
            return false;
        }
        self.model_is_gone(&model);
        let is_remembered = self.refused.len() < REFUSED;
        if is_remembered {
            self.refused.insert(model, failure);
        }
        is_remembered
    }

    /// Somebody asks for a model: a job was queued.
    pub fn job_waits(&mut self, model: &ModelName, now: Instant) {
        self.touched.model(model);
        // While somebody waits already, the hives are tried one after the other, each of them once.
        if !self.demand.contains_key(model) {
            self.held.asked_again(model);
        }
        self.queues.entry(model.clone()).or_default().queued(now);
        self.is_demanded(model, now);
    }

    /// So many jobs of a model were found in the queue, waiting or running.
    pub fn jobs_found(&mut self, model: &ModelName, depth: u64, now: Instant) {
        let waiting = if depth == 0 { 0 } else { depth.saturating_sub(self.running(model)) };
        let queue = self.queues.entry(model.clone()).or_default();
        if depth > 0 || queue.waiting() != waiting {
            self.touched.model(model);
        }
        if waiting < queue.waiting() {
            self.touched.room();
        }
        queue.counted(waiting, now);
        if depth > 0 {
            self.is_demanded(model, now);
        }
    }

    /// Where a worker is ready it takes the jobs; else they are a demand.
    fn is_demanded(&mut self, model: &ModelName, now: Instant) {
        let is_served = self.serving(model).any(|(_, worker)| worker.record.phase == WorkerPhase::Ready);
        if !is_served {
            self.demand.entry(model.clone()).or_insert(now);
        }
    }

    /// The jobs that waited for a model were answered otherwise.
    pub fn demand_is_over(&mut self, model: &ModelName) {
        self.touched.model(model);
        self.touched.room();
        self.demand.remove(model);
        self.queues.remove(model);
    }

    /// How many jobs of a model run, as far as is known.
    pub fn running(&self, model: &ModelName) -> u64 {
        self.workers_for(model).map(|(_, worker)| worker.jobs.len() as u64).sum()
    }

    // Orders.

    /// A spawn was commanded, by this queen or another.
    pub fn ordered(&mut self, key: WorkerKey, model: ModelName, now: Instant) {
        if self.workers.contains_key(&key) || self.orders.contains_key(&key) {
            return; // Its hive was faster, or it is known.
        }
        let expected = self.queues.get(&model).and_then(Queue::start);
        self.touched.model(&model);
        self.by_model.entry(model.clone()).or_default().insert(key.clone());
        self.orders.insert(key, Ordered { model, at: now, expected });
    }

    /// A spawn that was only thought of is not commanded after all, or under another name.
    pub(super) fn not_ordered(&mut self, key: &WorkerKey) {
        self.forget_order(key);
    }

    /// A worker was told to stop.
    pub fn told_to_stop(&mut self, key: &WorkerKey, now: Instant) {
        if let Some(worker) = self.workers.get_mut(key) {
            worker.told_to_stop = Some(now);
            self.touched.model(&worker.record.model);
        }
    }

    /// Forgets what is over: orders of which nothing was heard, and stops that did not come.
    pub fn forget_stale_orders(&mut self, now: Instant) {
        let patience = self.timers.order;
        let stale: Vec<WorkerKey> =
            self.orders.iter().filter(|(_, order)| now >= order.at + patience).map(|(key, _)| key.clone()).collect();
        for key in stale {
            self.forget_order(&key);
        }
        for worker in self.workers.values_mut() {
            let is_stale = worker.told_to_stop.is_some_and(|told| now >= told + patience);
            // While it drains or stops it has heard, and has its own time.
            if is_stale && counts(worker.record.phase) {
                worker.told_to_stop = None;
            }
        }
    }

    fn forget_order(&mut self, key: &WorkerKey) {
        if let Some(order) = self.orders.remove(key) {
            self.forget_key(&order.model, key);
        }
    }

    fn forget_key(&mut self, model: &ModelName, key: &WorkerKey) {
        if let Some(keys) = self.by_model.get_mut(model) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_model.remove(model);
            }
        }
    }

    // What follows from it.

    /// The declared models of which something is to be decided: those with workers, orders, demand, or a minimum. Who
    /// gets room first comes first: the higher priority, then whose jobs have waited longest.
    pub fn active(&self, scope: &Scope) -> Vec<(&ModelName, &ModelSpec)> {
        let is_active = |model: &ModelName, spec: &ModelSpec| {
            spec.replicas.min > 0 || self.by_model.contains_key(model) || self.demand.contains_key(model)
        };
        let looked_at: Vec<_> = match scope {
            Scope::Everything => self.models.iter().collect(),
            Scope::Models(models) => models.iter().filter_map(|model| self.models.get_key_value(model)).collect(),
        };
        let mut active: Vec<_> = looked_at.into_iter().filter(|(model, spec)| is_active(model, spec)).collect();
        let far = |model| self.demand.get(model).map_or((true, None), |since| (false, Some(*since)));
        active.sort_by_key(|(model, spec)| (std::cmp::Reverse(spec.priority), far(*model), (*model).clone()));
        active
    }

    /// The workers of a model, whatever they do.
    pub fn workers_for<'a>(&'a self, model: &ModelName) -> impl Iterator<Item = (&'a WorkerKey, &'a Worker)> + use<'a> {
        let keys = self.by_model.get(model).into_iter().flatten();
        keys.filter_map(|key| self.workers.get_key_value(key))
    }

    /// The workers of a hive.
    pub fn workers_of(&self, hive: &HiveName) -> impl Iterator<Item = (&WorkerKey, &Worker)> {
        // `-` is the first of all characters that a name may have.
        let first = (hive.clone(), WorkerName::from_lossy("-"));
        let hive = hive.clone();
        self.workers.range(first..).take_while(move |((at, _), _)| *at == hive)
    }

    /// The workers and orders of a model on one hive.
    fn keys_on<'a>(&'a self, hive: &HiveName, model: &ModelName) -> impl Iterator<Item = &'a WorkerKey> + use<'a> {
        let (first, hive) = ((hive.clone(), WorkerName::from_lossy("-")), hive.clone());
        let of_model = self.by_model.get(model).into_iter();
        of_model.flat_map(move |keys| keys.range(first.clone()..)).take_while(move |(at, _)| *at == hive)
    }

    /// The models that have workers or orders, also those that are not declared.
    pub fn models_with_workers(&self) -> impl Iterator<Item = &ModelName> {
        self.by_model.keys()
    }

    /// The workers that serve a model or soon will; those of lost hives do not count.
    pub fn serving<'a>(&'a self, model: &ModelName) -> impl Iterator<Item = (&'a WorkerKey, &'a Worker)> + use<'a> {
        self.workers_for(model).filter(move |((hive, _), worker)| {
            counts(worker.record.phase) && worker.told_to_stop.is_none() && self.is_there(hive)
        })
    }

    /// How many spawns of a model were commanded of which nothing is heard yet.
    pub fn orders_for(&self, model: &ModelName) -> usize {
        let keys = self.by_model.get(model).into_iter().flatten();
        keys.filter(|key| self.orders.contains_key(key)).count()
    }

    /// How many workers serve a model at the most: those that do not serve are counted too.
    pub fn most(&self, model: &ModelName) -> usize {
        self.by_model.get(model).map_or(0, BTreeSet::len)
    }

    /// How many workers serve a model, soon will, or were commanded.
    pub fn capacity(&self, model: &ModelName) -> u32 {
        number(self.serving(model).count() + self.orders_for(model))
    }

    /// The worker that ends again and again on a hive, and why.
    pub fn looping_on(&self, hive: &HiveName, model: &ModelName) -> Option<(&WorkerName, &Failure)> {
        let here = self.keys_on(hive, model).filter_map(|key| self.workers.get_key_value(key));
        here.filter_map(|((_, name), worker)| Some((name, worker.looping.as_ref()?))).next()
    }

    /// How many workers a hive runs or was commanded to.
    pub fn load(&self, hive: &HiveName) -> usize {
        let runs = self.workers_of(hive).filter(|(_, worker)| has_process(worker.record.phase));
        runs.count() + self.orders.keys().filter(|(at, _)| at == hive).count()
    }

    /// How many workers of a model a hive runs or was commanded to.
    pub fn load_of(&self, hive: &HiveName, model: &ModelName) -> usize {
        let runs = |key: &&WorkerKey| match self.workers.get(key) {
            Some(worker) => has_process(worker.record.phase) && worker.told_to_stop.is_none(),
            None => true,
        };
        self.keys_on(hive, model).filter(runs).count()
    }

    /// How much memory a worker of a model needs: what it may use, else the most that one was seen to use.
    pub fn memory_of(&self, model: &ModelName) -> Option<u64> {
        let spec = self.models.get(model)?;
        let seen = || self.workers_for(model).map(|(_, worker)| worker.memory_bytes).max().filter(|seen| *seen > 0);
        spec.limits.memory.map(|memory| memory.bytes()).or_else(seen)
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
