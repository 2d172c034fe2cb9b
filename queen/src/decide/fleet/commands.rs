//! Commands that were sent to hives and whose effect is not reported yet.

use std::time::Instant;

use rbee_schema::ModelName;

use super::{Fleet, PendingSpawn, WorkerKey};
use crate::decide::queue::Queue;

impl Fleet {
    /// A queen, this one or another, commanded a spawn.
    pub fn spawn_commanded(&mut self, key: WorkerKey, model: ModelName, now: Instant) {
        let is_known = self.table.workers().contains_key(&key) || self.table.pending().contains_key(&key);
        if is_known {
            return; // The hive reported the worker first, or the command was seen before.
        }
        let expected = self.queue(&model).and_then(Queue::start_time);
        self.dirty.mark_model(&model);
        self.table.insert_pending(key, PendingSpawn { model, commanded_at: now, expected });
    }

    /// The queen commanded a worker to stop.
    pub fn stop_commanded(&mut self, key: &WorkerKey, now: Instant) {
        if let Some(worker) = self.table.worker_mut(key) {
            worker.stop_commanded = Some(now);
            self.dirty.mark_model(&worker.record.model);
        }
    }

    /// True if a spawn or stop of the worker was commanded and its hive has not reported it yet.
    pub fn awaits(&self, key: &WorkerKey) -> bool {
        let is_stopping = |worker: &super::Worker| worker.stop_commanded.is_some();
        self.table.pending().contains_key(key) || self.worker(key).is_some_and(is_stopping)
    }

    /// Forgets stop commands, at the start of a new term: hives refuse commands of earlier terms, so stops are decided again.
    pub fn forget_stops(&mut self) {
        for (_, worker) in self.table.workers_mut().filter(|(_, worker)| worker.counts()) {
            worker.stop_commanded = None;
        }
    }

    /// Forgets commands that no hive has reported within the command timeout. They are decided again.
    pub fn expire_commands(&mut self, now: Instant) {
        let timeout = self.timers.order;
        let pending = self.table.pending().iter().filter(|(_, spawn)| now >= spawn.commanded_at + timeout);
        for key in pending.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.table.remove_pending(&key);
        }
        for (_, worker) in self.table.workers_mut() {
            let is_expired = worker.stop_commanded.is_some_and(|commanded| now >= commanded + timeout);
            // A worker that drains or stops got the command, and its hive has a deadline for it.
            if is_expired && worker.counts() {
                worker.stop_commanded = None;
            }
        }
    }
}
