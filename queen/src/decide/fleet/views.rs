//! Questions about the fleet: the workers of a model or hive, and the capacity that they are.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use rbee_schema::{Failure, HiveName, ModelName, ModelReference, ModelSpec, WorkerName};

use super::{Fleet, Hive, PendingSpawn, Worker, WorkerKey, clock::count, table::first_key};
use crate::decide::{backoff::Backoffs, dirty::Scope, liveness::Presence, queue::Queue};

impl Fleet {
    /// Hives that are connected, and lost ones that may return.
    pub fn hives(&self) -> &BTreeMap<HiveName, Hive> {
        &self.hives
    }

    /// Workers of all hives, including absent ones.
    pub fn workers(&self) -> &BTreeMap<WorkerKey, Worker> {
        self.table.workers()
    }

    /// One worker.
    pub fn worker(&self, key: &WorkerKey) -> Option<&Worker> {
        self.table.workers().get(key)
    }

    /// Declared models.
    pub fn models(&self) -> &BTreeMap<ModelName, ModelSpec> {
        &self.models.declared
    }

    /// Invalid declarations, with the reason.
    pub fn refused_models(&self) -> &BTreeMap<ModelName, Failure> {
        &self.models.refused
    }

    /// Queues of the models that have had jobs.
    pub fn queues(&self) -> &BTreeMap<ModelName, Queue> {
        &self.jobs.queues
    }

    /// Queue of a model, if the model has had jobs.
    pub fn queue(&self, model: &ModelName) -> Option<&Queue> {
        self.jobs.queues.get(model)
    }

    /// Number of jobs that wait for a model.
    pub fn waiting(&self, model: &ModelName) -> u64 {
        self.queue(model).map_or(0, Queue::waiting)
    }

    /// True if jobs of a model were seen and no worker was ready for them.
    pub fn is_in_demand(&self, model: &ModelName) -> bool {
        self.jobs.demand.contains_key(model)
    }

    /// Start of the demand for a model.
    pub fn in_demand_since(&self, model: &ModelName) -> Option<Instant> {
        self.jobs.demand.get(model).copied()
    }

    /// Start of the demand for each model in demand.
    pub fn demands(&self) -> impl Iterator<Item = Instant> {
        self.jobs.demand.values().copied()
    }

    /// True if any model is in demand.
    pub fn has_demand(&self) -> bool {
        !self.jobs.demand.is_empty()
    }

    /// Backoffs after failures.
    pub fn backoffs(&self) -> &Backoffs {
        &self.backoffs
    }

    /// Spawn command of a worker that no hive has reported yet.
    pub fn pending_spawn(&self, key: &WorkerKey) -> Option<&PendingSpawn> {
        self.table.pending().get(key)
    }

    /// Spawn commands to a hive that it has not reported yet.
    pub fn pending_spawns_on(&self, hive: &HiveName) -> impl Iterator<Item = (&WorkerKey, &PendingSpawn)> {
        self.table.pending_on_hive(hive)
    }

    /// Number of spawn commands for a model that no hive has reported yet.
    pub fn pending_spawns_of(&self, model: &ModelName) -> usize {
        let keys = self.table.keys(model).into_iter().flatten();
        keys.filter(|key| self.table.pending().contains_key(key)).count()
    }

    /// Declared models of `scope` for which something may have to be done: those with workers, pending spawns, demand, or a
    /// minimum. In the order in which they get room: higher priority first, then the longest wait.
    pub fn active(&self, scope: &Scope) -> Vec<(&ModelName, &ModelSpec)> {
        let is_active = |model: &ModelName, spec: &ModelSpec| {
            spec.replicas.min > 0 || self.table.keys(model).is_some() || self.is_in_demand(model)
        };
        let in_scope: Vec<_> = match scope {
            Scope::Everything => self.models().iter().collect(),
            Scope::Models(models) => models.iter().filter_map(|model| self.models().get_key_value(model)).collect(),
        };
        let mut active: Vec<_> = in_scope.into_iter().filter(|(model, spec)| is_active(model, spec)).collect();
        let demand = |model| self.jobs.demand.get(model);
        let waits_since = |model| demand(model).map_or((true, None), |since: &Instant| (false, Some(*since)));
        active.sort_by_cached_key(|(model, spec)| (Reverse(spec.priority), waits_since(*model), *model));
        active
    }

    /// Workers of a model, in any phase.
    pub fn workers_for<'a>(&'a self, model: &ModelName) -> impl Iterator<Item = (&'a WorkerKey, &'a Worker)> + use<'a> {
        let keys = self.table.keys(model).into_iter().flatten();
        keys.filter_map(|key| self.workers().get_key_value(key))
    }

    /// Workers of a hive, in any phase.
    pub fn workers_of(&self, hive: &HiveName) -> impl Iterator<Item = (&WorkerKey, &Worker)> {
        self.table.on_hive(hive)
    }

    /// Keys of the workers and pending spawns of a model on one hive.
    fn keys_on<'a>(&'a self, hive: &HiveName, model: &ModelName) -> impl Iterator<Item = &'a WorkerKey> + use<'a> {
        let (first, hive) = (first_key(hive), hive.clone());
        let of_model = self.table.keys(model).into_iter();
        of_model.flat_map(move |keys| keys.range(first.clone()..)).take_while(move |(at, _)| *at == hive)
    }

    /// Models with workers or pending spawns, including models that are not declared.
    pub fn models_with_workers(&self) -> impl Iterator<Item = &ModelName> {
        self.table.models()
    }

    /// Workers that serve a model or will soon. Workers of lost hives do not count.
    pub fn serving<'a>(&'a self, model: &ModelName) -> impl Iterator<Item = (&'a WorkerKey, &'a Worker)> + use<'a> {
        self.workers_for(model).filter(move |((hive, _), worker)| {
            worker.counts() && worker.stop_commanded.is_none() && self.is_present(hive)
        })
    }

    /// True if a worker takes jobs of a model and was heard from lately. A worker of a lost hive serves on.
    pub fn is_answered(&self, model: &ModelName, now: Instant) -> bool {
        self.workers_for(model).any(|(_, worker)| worker.serves(now, self.timers.suspect))
    }

    /// Upper bound of the number of workers that serve a model: workers in any phase and pending spawns.
    pub fn most_workers(&self, model: &ModelName) -> usize {
        self.table.keys(model).map_or(0, BTreeSet::len)
    }

    /// Number of workers that serve a model, will soon, or were commanded.
    pub fn capacity(&self, model: &ModelName) -> u32 {
        count(self.serving(model).count() + self.pending_spawns_of(model))
    }

    /// A worker of the model in a crash loop on the hive, and the reason.
    pub fn crash_looping_on(&self, hive: &HiveName, model: &ModelName) -> Option<(&WorkerName, &Failure)> {
        let here = self.keys_on(hive, model).filter_map(|key| self.workers().get_key_value(key));
        here.filter_map(|((_, name), worker)| Some((name, worker.crash_loop.as_ref()?))).next()
    }

    /// Number of workers with a process on a hive, and of pending spawns there.
    pub fn load(&self, hive: &HiveName) -> usize {
        let running = self.workers_of(hive).filter(|(_, worker)| worker.has_process());
        running.count() + self.pending_spawns_on(hive).count()
    }

    /// Number of workers of a model on a hive that run and will not stop, and of pending spawns there.
    pub fn load_of(&self, hive: &HiveName, model: &ModelName) -> usize {
        self.keys_on(hive, model).filter(|key| self.worker(key).is_none_or(stays)).count()
    }

    /// Memory in bytes that a worker of a model needs: its limit, else the highest use seen.
    pub fn memory_of(&self, model: &ModelName) -> Option<u64> {
        let spec = self.models().get(model)?;
        let seen =
            || self.workers_for(model).map(|(_, worker)| worker.usage.memory_bytes).max().filter(|seen| *seen > 0);
        spec.limits.memory.map(|memory| memory.bytes()).or_else(seen)
    }

    /// True if a hive has fetched a model file.
    pub fn has_file(&self, hive: &HiveName, reference: &ModelReference) -> bool {
        self.files.get(hive).is_some_and(|files| files.values().any(|found| found == reference))
    }

    /// True if a hive is known and not lost.
    pub fn is_present(&self, hive: &HiveName) -> bool {
        self.hives.get(hive).is_some_and(|known| known.liveness.presence() != Presence::Lost)
    }
}

fn stays(worker: &Worker) -> bool {
    worker.has_process() && worker.stop_commanded.is_none()
}
