//! Cancelled jobs that no worker runs: the leading queen answers them. A worker answers those that it runs.
//!
//! A cancellation is stored, and a worker that receives the job later reads it. What is left to the queen are jobs that wait:
//! nobody else may ever receive them.

use std::time::Instant;

use futures::{StreamExt as _, stream};
use rbee_nats::{Answered, Begun, Bus, BusError, JobFinder, Message, QueuedJob, StoredCancel, Subject};
use rbee_schema::{Failure, FailureCode, ModelName};
use tracing::{debug, warn};

use super::{Controller, Report, state::Cancelled};
use crate::decide::fleet::WorkerKey;

/// Number of cancellations that are carried out at a time: enough to hide the round trip to the server.
const WINDOW: usize = 32;

impl Controller {
    /// A job was cancelled.
    pub(super) fn handle_cancel(&mut self, message: &Message) {
        let Some(Subject::Cancel(tenant, job)) = self.bus.parse(&message.subject) else { return };
        if !self.leads() {
            return;
        }
        match self.fleet.worker_with(&tenant, &job).cloned() {
            Some(worker) => drop(self.cancels.running.insert((tenant, job), worker)),
            None => self.carry_out_cancels([Cancelled { tenant, job, stored: None }]),
        }
    }

    /// Reads the cancellations from before this queen led.
    pub(super) fn read_cancels(&mut self) {
        let bus = self.bus.clone();
        self.tasks.spawn(async move {
            let stored = bus.stored_cancels().await.unwrap_or_else(|error| {
                warn!(%error, "the cancellations could not be read; workers read them when they receive the jobs");
                Vec::new()
            });
            Report::StoredCancels(stored)
        });
    }

    pub(super) fn handle_stored_cancels(&mut self, stored: Vec<StoredCancel>) {
        let cancelled = stored.into_iter().map(|StoredCancel { tenant, job, stored }| Cancelled {
            tenant,
            job,
            stored: Some(stored),
        });
        self.carry_out_cancels(cancelled);
    }

    /// A worker took or ended jobs. It answers the cancelled jobs that it runs.
    pub(super) fn cancels_heard(&mut self, worker: &WorkerKey) {
        let fleet = &self.fleet;
        self.cancels.running.retain(|(tenant, job), at| at != worker || fleet.worker_with(tenant, job).is_some());
    }

    /// A worker has no process any more. The cancelled jobs that it ran wait again.
    pub(super) fn cancels_returned(&mut self, worker: &WorkerKey) {
        let returned: Vec<_> = self.cancels.running.extract_if(.., |_, at| at == worker).collect();
        let cancelled = returned.into_iter().map(|((tenant, job), _)| Cancelled { tenant, job, stored: None });
        self.carry_out_cancels(cancelled);
    }

    fn carry_out_cancels(&mut self, cancelled: impl IntoIterator<Item = Cancelled>) {
        self.cancels.waiting.extend(cancelled);
        if self.cancels.is_running || self.cancels.waiting.is_empty() {
            return;
        }
        self.cancels.is_running = true;
        let cancelled = std::mem::take(&mut self.cancels.waiting);
        let (bus, finder) = (self.bus.clone(), self.finder.clone());
        self.tasks.spawn(async move { Report::Cancelled(cancel_all(&bus, &finder, cancelled).await) });
    }

    /// Cancelled jobs have left the queue.
    pub(super) fn handle_cancelled(&mut self, jobs: Vec<ModelName>) {
        self.cancels.is_running = false;
        for model in jobs {
            self.fleet.job_left(&model, Instant::now());
            if self.fleet.waiting(&model) == 0 {
                // The number may be wrong by a notice that was lost.
                self.count_queue();
            }
        }
        self.carry_out_cancels([]);
    }
}

/// Answers cancelled jobs that are in the queue. Returns the model of each.
async fn cancel_all(bus: &Bus, finder: &JobFinder, cancelled: Vec<Cancelled>) -> Vec<ModelName> {
    let answers = stream::iter(cancelled).map(|cancelled| async move {
        match cancel(bus, finder, &cancelled).await {
            Ok(model) => model,
            Err(error) => {
                warn!(job = %cancelled.job, %error, "a job could not be cancelled; a worker cancels it when it receives the job");
                None
            }
        }
    });
    answers.buffer_unordered(WINDOW).filter_map(async |model| model).collect().await
}

async fn cancel(bus: &Bus, finder: &JobFinder, cancelled: &Cancelled) -> Result<Option<ModelName>, BusError> {
    let Cancelled { tenant, job, stored } = cancelled;
    let Some(queued) = finder.find(tenant, job).await? else { return Ok(None) };
    if stored.is_some_and(|stored| stored < queued.stored) {
        return Ok(None);
    }
    let failure = Failure::new(FailureCode::Cancelled, "the job was cancelled before it ran");
    let answered = bus.answer(&queued, &failure, Begun::Answer).await?;
    debug!(%job, ?answered, "a waiting job was cancelled");
    let QueuedJob { model, .. } = queued;
    Ok(model.filter(|_| answered == Answered::Yes))
}
