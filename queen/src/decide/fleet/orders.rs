//! What was commanded and is not seen yet.

use std::time::Instant;

use rbee_schema::ModelName;

use super::{Fleet, Ordered, WorkerKey, counts};
use crate::decide::queue::Queue;

impl Fleet {
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
    pub(in crate::decide) fn not_ordered(&mut self, key: &WorkerKey) {
        self.forget_order(key);
    }

    /// Whether something was commanded about a worker and has not happened yet, as far as is known.
    pub fn awaits(&self, key: &WorkerKey) -> bool {
        self.orders.contains_key(key) || self.workers.get(key).is_some_and(|worker| worker.told_to_stop.is_some())
    }

    /// A worker was told to stop.
    pub fn told_to_stop(&mut self, key: &WorkerKey, now: Instant) {
        if let Some(worker) = self.workers.get_mut(key) {
            worker.told_to_stop = Some(now);
            self.touched.model(&worker.record.model);
        }
    }

    /// She leads anew: hives refuse what was commanded in an earlier term. Who is to stop is decided again.
    pub fn forget_stops(&mut self) {
        for worker in self.workers.values_mut().filter(|worker| counts(worker.record.phase)) {
            worker.told_to_stop = None;
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

    pub(super) fn forget_order(&mut self, key: &WorkerKey) {
        if let Some(order) = self.orders.remove(key) {
            self.forget_key(&order.model, key);
        }
    }

    pub(super) fn forget_key(&mut self, model: &ModelName, key: &WorkerKey) {
        if let Some(keys) = self.by_model.get_mut(model) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_model.remove(model);
            }
        }
    }
}
