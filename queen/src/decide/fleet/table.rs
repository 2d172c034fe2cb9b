//! Workers and pending spawns, by hive and by model.

use std::collections::{BTreeMap, BTreeSet};

use rbee_schema::{HiveName, ModelName, WorkerName};

use super::worker::{PendingSpawn, Worker, WorkerKey};

/// Workers and pending spawns with an index by model. Every change goes through this type, so that the index cannot differ.
#[derive(Debug, Clone, Default)]
pub(super) struct WorkerTable {
    workers: BTreeMap<WorkerKey, Worker>,
    pending: BTreeMap<WorkerKey, PendingSpawn>,
    by_model: BTreeMap<ModelName, BTreeSet<WorkerKey>>,
}

impl WorkerTable {
    pub(super) fn workers(&self) -> &BTreeMap<WorkerKey, Worker> {
        &self.workers
    }

    pub(super) fn workers_mut(&mut self) -> impl Iterator<Item = (&WorkerKey, &mut Worker)> {
        self.workers.iter_mut()
    }

    pub(super) fn worker_mut(&mut self, key: &WorkerKey) -> Option<&mut Worker> {
        self.workers.get_mut(key)
    }

    /// Spawns of which no hive has reported anything yet.
    pub(super) fn pending(&self) -> &BTreeMap<WorkerKey, PendingSpawn> {
        &self.pending
    }

    /// Keys of the workers and pending spawns of a model.
    pub(super) fn keys(&self, model: &ModelName) -> Option<&BTreeSet<WorkerKey>> {
        self.by_model.get(model)
    }

    /// Models with a worker or a pending spawn.
    pub(super) fn models(&self) -> impl Iterator<Item = &ModelName> {
        self.by_model.keys()
    }

    /// Workers of a hive.
    pub(super) fn on_hive(&self, hive: &HiveName) -> impl Iterator<Item = (&WorkerKey, &Worker)> {
        let hive = hive.clone();
        self.workers.range(first_key(&hive)..).take_while(move |((at, _), _)| *at == hive)
    }

    /// Pending spawns on a hive.
    pub(super) fn pending_on_hive(&self, hive: &HiveName) -> impl Iterator<Item = (&WorkerKey, &PendingSpawn)> {
        let hive = hive.clone();
        self.pending.range(first_key(&hive)..).take_while(move |((at, _), _)| *at == hive)
    }

    /// The worker of a key, added with `create` where it is new. A pending spawn of the key is fulfilled.
    pub(super) fn worker_or_insert(
        &mut self,
        key: &WorkerKey,
        model: &ModelName,
        create: impl FnOnce(Option<PendingSpawn>) -> Worker,
    ) -> &mut Worker {
        let spawn = self.pending.remove(key);
        self.by_model.entry(model.clone()).or_default().insert(key.clone());
        self.workers.entry(key.clone()).or_insert_with(|| create(spawn))
    }

    pub(super) fn remove_worker(&mut self, key: &WorkerKey) -> Option<Worker> {
        let worker = self.workers.remove(key)?;
        self.forget_key(&worker.record.model, key);
        Some(worker)
    }

    pub(super) fn insert_pending(&mut self, key: WorkerKey, spawn: PendingSpawn) {
        self.by_model.entry(spawn.model.clone()).or_default().insert(key.clone());
        self.pending.insert(key, spawn);
    }

    pub(super) fn remove_pending(&mut self, key: &WorkerKey) {
        if let Some(spawn) = self.pending.remove(key) {
            self.forget_key(&spawn.model, key);
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
}

/// A key that sorts before every worker of a hive: `-` is the first of all characters that a name may have.
pub(super) fn first_key(hive: &HiveName) -> WorkerKey {
    (hive.clone(), WorkerName::from_lossy("-"))
}
