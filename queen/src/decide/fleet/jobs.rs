//! Jobs that wait for a model, and the demand that follows from them.

use std::{collections::HashSet, time::Instant};

use rbee_schema::{JobId, ModelName, Tenant};

use super::{Fleet, WorkerKey};

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

    /// The queue was counted from `started` on, and holds `depth` jobs of a model, waiting or running.
    pub fn queue_counted(&mut self, model: &ModelName, depth: u64, started: Instant, now: Instant) {
        let waiting = if depth == 0 { 0 } else { depth.saturating_sub(self.running(model)) };
        let queue = self.jobs.queues.entry(model.clone()).or_default();
        if depth > 0 || queue.waiting() != waiting {
            self.dirty.mark_model(model);
        }
        if waiting < queue.waiting() {
            self.dirty.mark_room();
        }
        queue.set_waiting(waiting, now);
        let is_current = queue.last_queued().is_none_or(|queued| queued < started);
        if depth > 0 {
            self.add_demand(model, now);
        } else if is_current {
            self.end_demand(model);
        }
    }

    /// A waiting job has left the queue without a worker: it was cancelled.
    pub fn job_left(&mut self, model: &ModelName, now: Instant) {
        let Some(queue) = self.jobs.queues.get_mut(model) else { return };
        queue.jobs_taken(1, now);
        if queue.waiting() == 0 && self.running(model) == 0 {
            self.end_demand(model);
        }
        self.dirty.mark_model(model);
    }

    /// No job asks for the model any more.
    fn end_demand(&mut self, model: &ModelName) {
        if self.jobs.demand.remove(model).is_some() {
            self.dirty.mark_model(model);
            self.dirty.mark_room();
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

    /// True if a heartbeat names a job of a model.
    pub fn runs(&self, model: &ModelName, tenant: &Tenant, job: &JobId) -> bool {
        self.workers_for(model).any(|(_, worker)| worker.jobs.contains(tenant, job))
    }

    /// The worker whose heartbeat names a job.
    pub fn worker_with(&self, tenant: &Tenant, job: &JobId) -> Option<&WorkerKey> {
        self.workers().iter().find(|(_, worker)| worker.jobs.contains(tenant, job)).map(|(key, _)| key)
    }

    /// The jobs that heartbeats name.
    pub fn running_jobs(&self) -> HashSet<(Tenant, JobId)> {
        let jobs = self.workers().values().flat_map(|worker| worker.jobs.iter());
        jobs.map(|job| (job.tenant.clone(), job.job.clone())).collect()
    }

    /// Number of running jobs of a model and tenant, from heartbeats.
    pub fn running_of(&self, model: &ModelName, tenant: &Tenant) -> u64 {
        let jobs = self.workers_for(model).flat_map(|(_, worker)| worker.jobs.iter());
        jobs.filter(|job| job.tenant == *tenant).count() as u64
    }

    /// Number of running jobs of a model, from heartbeats.
    pub fn running(&self, model: &ModelName) -> u64 {
        self.workers_for(model).map(|(_, worker)| worker.jobs.len() as u64).sum()
    }
}
