//! What follows from what is known: who serves what, how many of them, and where.

use std::collections::BTreeSet;

use rbee_schema::{Failure, HiveName, ModelName, ModelSpec, WorkerName};

use super::{Fleet, Worker, WorkerKey, counts, has_process, number};
use crate::decide::touched::Scope;

impl Fleet {
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
