//! Counts of the real job queue, which correct what notices and heartbeats say.

use std::time::Instant;

use rbee_nats::QueueCount;
use rbee_schema::{ModelName, Tenant};
use tracing::{debug, warn};

use super::{
    Controller, Report,
    state::{Counting, Reason},
};

impl Controller {
    /// Counts the queue now, unless a count is running or the registries were not read yet.
    pub(super) fn count_queue(&mut self) {
        if self.queue_count.is_running || !self.has_read_registries() {
            return;
        }
        self.queue_count = Counting { started: Some(Instant::now()), is_running: true };
        self.tenants.known.count_begins();
        let bus = self.bus.clone();
        self.tasks.spawn(async move {
            let counted = bus.count_queue().await;
            Report::Counted(counted.inspect_err(|error| warn!(%error, "the job queue could not be counted")).ok())
        });
    }

    /// Counts the queue while jobs wait, at most once in the interval `count`: a notice may be lost, and a job may leave the
    /// queue without a heartbeat that names it.
    pub(super) fn recount_queue(&mut self, now: Instant) {
        let is_due = self.queue_count.started.is_none_or(|started| now >= started + self.fleet.timers().count);
        if is_due && self.fleet.queues().values().any(|queue| queue.waiting() > 0) {
            self.count_queue();
        }
    }

    pub(super) fn handle_queue_count(&mut self, counted: Option<QueueCount>) {
        self.queue_count.is_running = false;
        let Some(QueueCount { depths, flows, tenants, misnamed }) = counted else { return };
        let now = Instant::now();
        let started = self.queue_count.started.unwrap_or(now);
        let is_empty = |model: &&ModelName| !depths.iter().any(|(found, depth)| found == *model && *depth > 0);
        let emptied: Vec<ModelName> = self.fleet.queues().keys().filter(is_empty).cloned().collect();
        for model in emptied {
            self.fleet.queue_counted(&model, 0, started, now);
        }
        let fleet = &self.fleet;
        let running = |model: &ModelName, tenant: &Tenant| fleet.running_of(model, tenant);
        let demand = self.tenants.known.demand(&flows, running, now);
        for (model, depth) in depths.iter().filter(|(_, depth)| *depth > 0) {
            debug!(%model, depth, "the queue of a model was counted");
            if self.fleet.models().contains_key(model) {
                let may_run = demand.get(model).copied().unwrap_or(0);
                self.fleet.queue_counted(model, may_run, started, now);
            } else {
                self.refuse_unknown(model.clone());
            }
        }
        self.tenants_counted(&tenants, started);
        for subject in misnamed {
            self.refuse(subject, Reason::Misnamed);
        }
    }
}
