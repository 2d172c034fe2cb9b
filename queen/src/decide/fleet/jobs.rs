//! Jobs that wait for a model, and the demand that follows from them.

use std::time::Instant;

use rbee_schema::ModelName;

use super::Fleet;

impl Fleet {
    /// A job of a model was queued.
    pub fn job_queued(&mut self, model: &ModelName, now: Instant) {
        self.dirty.mark_model(model);
        // Demand that lasts retries nothing: each hive is tried once.
        if !self.is_in_demand(model) {
            self.backoffs.retry_on_demand(model);
        }
        self.jobs.queues.entry(model.clone()).or_default().job_queued(now);
        self.add_demand(model, now);
    }

    /// The queue was counted and holds `depth` jobs of a model, waiting or running.
    pub fn queue_counted(&mut self, model: &ModelName, depth: u64, now: Instant) {
        let waiting = if depth == 0 { 0 } else { depth.saturating_sub(self.running(model)) };
        let queue = self.jobs.queues.entry(model.clone()).or_default();
        if depth > 0 || queue.waiting() != waiting {
            self.dirty.mark_model(model);
        }
        if waiting < queue.waiting() {
            self.dirty.mark_room();
        }
        queue.set_waiting(waiting, now);
        if depth > 0 {
            self.add_demand(model, now);
        }
    }

    /// Jobs are demand unless a ready worker takes them.
    fn add_demand(&mut self, model: &ModelName, now: Instant) {
        let is_served = self.serving(model).any(|(_, worker)| worker.is_ready());
        if !is_served {
            self.jobs.demand.entry(model.clone()).or_insert(now);
        }
    }

    /// The waiting jobs of a model were answered with a failure.
    pub fn jobs_refused(&mut self, model: &ModelName) {
        self.dirty.mark_model(model);
        self.dirty.mark_room();
        self.jobs.demand.remove(model);
        self.jobs.queues.remove(model);
    }

    /// Number of running jobs of a model, from heartbeats.
    pub fn running(&self, model: &ModelName) -> u64 {
        self.workers_for(model).map(|(_, worker)| worker.jobs.len() as u64).sum()
    }
}
