//! Jobs that the queen answers with a failure, because no worker will.

use rbee_nats::trace::STEPS;
use rbee_nats::{AppendError, Bus, BusError, Message, QueuedJob, Registry, Subject};
use rbee_schema::{Chunk, Failure, FailureCode, JobId, ModelName, Tenant};
use tracing::{Instrument as _, debug, warn};

use super::{Controller, Report};
use crate::inference::{refusal, unknown_model};

/// Number of models listed in the failure for an unknown model.
const LISTED_MODELS: usize = 50;

impl Controller {
    /// A job was cancelled. One that no worker has begun is answered here; otherwise its worker answers it.
    pub(super) fn handle_cancel(&mut self, message: &Message) {
        let Some(Subject::Cancel(tenant, job)) = self.bus.parse(&message.subject) else { return };
        let bus = self.bus.clone();
        self.tasks.spawn(async move {
            let error = Failure::new(FailureCode::Cancelled, "the job was cancelled before it ran");
            match bus.append(&tenant, &job, &Chunk::Error { error }, 0).await {
                Ok(_) | Err(AppendError::Stale) => {}
                Err(AppendError::Bus(error)) => warn!(%job, %error, "a job could not be cancelled"),
            }
            Report::Done
        });
    }

    /// Answers the jobs of a model that is not declared, if this queen leads. The bucket is read first: a declaration may be
    /// on its way.
    pub(super) fn refuse_unknown(&mut self, model: ModelName) {
        if !self.leads() {
            return;
        }
        let bus = self.bus.clone();
        let known: Vec<String> = self.fleet.models().keys().take(LISTED_MODELS).map(ToString::to_string).collect();
        self.tasks.spawn(async move {
            let declared = Registry::models(&bus).get(model.as_str()).await;
            if declared.is_ok_and(|spec| spec.is_some_and(|spec| spec.check().is_ok())) {
                return bus.queue_depths().await.map_or(Report::Done, Report::QueueDepths);
            }
            let failure = unknown_model(model.as_str(), known.iter().map(String::as_str));
            answer_all(&bus, &model, &failure).await;
            Report::Done
        });
    }
}

/// Answers every queued job of a model with a failure and removes it from the queue.
pub(super) async fn answer_all(bus: &Bus, model: &ModelName, failure: &Failure) {
    let jobs = match bus.queued_jobs(model).await {
        Ok(jobs) => jobs,
        Err(error) => return warn!(%model, %error, "the waiting jobs of a model could not be read"),
    };
    for QueuedJob { sequence, tenant, job, trace } in jobs {
        let span = refusal(&tenant, &job, &trace);
        match answer(bus, sequence, &tenant, &job, failure).instrument(span.clone()).await {
            Ok(()) => span.in_scope(|| debug!(target: STEPS, "refused: {failure}")),
            Err(error) => span.in_scope(|| warn!(%job, %error, "a job could not be refused")),
        }
    }
}

async fn answer(bus: &Bus, sequence: u64, tenant: &Tenant, job: &JobId, failure: &Failure) -> Result<(), BusError> {
    let output = bus.stored_output(tenant, job, 0).await?;
    let last = output.last();
    if !last.is_some_and(|last| last.chunk.is_last()) {
        let chunk = Chunk::Error { error: failure.clone() };
        match bus.append(tenant, job, &chunk, last.map_or(0, |last| last.sequence)).await {
            Ok(_) => {}
            // A worker runs the job after all.
            Err(AppendError::Stale) => return Ok(()),
            Err(AppendError::Bus(error)) => return Err(error),
        }
    }
    bus.drop_job(sequence).await
}
