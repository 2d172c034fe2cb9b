//! Jobs that the queen answers with a failure, because no worker will.
//!
//! One task refuses the jobs of one filter, such as those of one model. It reads the queue in batches and answers a batch at a
//! time, so that the cost of a job does not depend on the number of jobs. A job that a worker has begun is left alone while a
//! heartbeat names it.

use std::{collections::HashSet, time::Instant};

use futures::{StreamExt as _, stream};
use rbee_nats::trace::STEPS;
use rbee_nats::{Answered, Begun, Bus, BusError, QueuedJob, Registry};
use rbee_schema::{Failure, FailureCode, JobId, Missed, ModelName, Tenant};
use tokio::time::sleep_until;
use tracing::{Instrument as _, debug, warn};

use super::{
    Controller, Report,
    state::{Expired, Reason, Refusals, Refused, Unanswered},
};
use crate::inference::{refusal, unknown_model};

/// Number of models listed in the failure for an unknown model.
const LISTED_MODELS: usize = 50;

/// Number of refusing tasks that run at a time. One alone keeps a server busy.
const TASKS: usize = 4;

/// Number of jobs that a task answers at a time: enough to hide the round trip to the server.
const WINDOW: usize = 64;

impl Controller {
    /// Refuses the jobs of a model that is not declared, if this queen leads.
    pub(super) fn refuse_unknown(&mut self, model: ModelName) {
        self.refuse(self.bus.namespace().jobs_of_model(&model), Reason::Undeclared(model));
    }

    /// Refuses the jobs whose subjects match `filter`, if this queen leads. Jobs that arrive while a task refuses those of the
    /// same filter wait for the next task.
    pub(super) fn refuse(&mut self, filter: String, reason: Reason) {
        if self.leads() {
            self.refusals.waiting.insert(filter, reason);
            self.start_refusals();
        }
    }

    fn start_refusals(&mut self) {
        while self.refusals.running.len() < TASKS {
            let Refusals { running, waiting, .. } = &self.refusals;
            let Some(filter) = waiting.keys().find(|filter| !running.contains(*filter)).cloned() else { return };
            let Some(reason) = self.refusals.waiting.remove(&filter) else { return };
            self.refusals.running.insert(filter.clone());
            let known: Vec<String> = self.fleet.models().keys().take(LISTED_MODELS).map(ToString::to_string).collect();
            let running = self.fleet.running_jobs();
            let bus = self.bus.clone();
            self.tasks.spawn(async move { Report::Refused(refuse_all(&bus, filter, reason, &known, &running).await) });
        }
    }

    /// A task has refused the jobs of a filter.
    pub(super) fn handle_refused(&mut self, Refused { filter, begun, leaves_demand }: Refused) {
        self.refusals.running.remove(&filter);
        self.start_refusals();
        if leaves_demand {
            self.count_queue();
        }
        if begun.is_empty() {
            return;
        }
        self.refusals
            .begun
            .extend(begun.into_iter().map(|job| ((job.queued.tenant.clone(), job.queued.job.clone()), job)));
        self.answer_begun(None);
    }

    /// Answers begun jobs that no heartbeat names any more: those of `model`, or of all. The heartbeats of all workers arrive
    /// within the time after which a hive is suspect.
    pub(super) fn answer_begun(&mut self, model: Option<&ModelName>) {
        if self.refusals.begun.is_empty() {
            return;
        }
        let known_at = self.listening_since + self.fleet.timers().suspect;
        if Instant::now() < known_at {
            self.tasks.spawn(async move {
                // Timer: the time in which every worker sends a heartbeat.
                sleep_until(known_at.into()).await;
                Report::HeartbeatsKnown
            });
            return;
        }
        let fleet = &self.fleet;
        let is_due = |_: &(Tenant, JobId), job: &mut Unanswered| {
            let of = job.queued.model.as_ref();
            (model.is_none() || of == model)
                && !of.is_some_and(|of| fleet.runs(of, &job.queued.tenant, &job.queued.job))
        };
        for (_, Unanswered { queued, reason, failure }) in self.refusals.begun.extract_if(.., is_due) {
            if matches!(&reason, Reason::Undeclared(model) if fleet.models().contains_key(model)) {
                continue;
            }
            let bus = self.bus.clone();
            if let Reason::Expired(started) = reason {
                self.tasks.spawn(async move {
                    let left = end(&bus, &queued, &failure, started).await.into_iter().collect();
                    Report::Expired(Expired { left, ..Expired::default() })
                });
                continue;
            }
            self.tasks.spawn(async move {
                // Another worker may have taken it a moment ago; then it is running again.
                let _ = answer(&bus, &queued, &failure, Begun::Answer).await;
                Report::Done
            });
        }
        // A job that cannot be served now may be served later by the worker that has it.
        self.refusals.begun.retain(|_, job| !matches!(job.reason, Reason::Unserved(_) | Reason::Overdue(_)));
    }
}

/// Answers the jobs whose subjects match `filter` and that are not among the `running` ones.
async fn refuse_all(
    bus: &Bus,
    filter: String,
    reason: Reason,
    known: &[String],
    running: &HashSet<(Tenant, JobId)>,
) -> Refused {
    let leaves_demand = matches!(reason, Reason::Overdue(_));
    let mut refused = Refused { filter, begun: Vec::new(), leaves_demand };
    let failure = match &reason {
        // The bucket is read first: a declaration may be on its way.
        Reason::Undeclared(model) => {
            let declared = Registry::models(bus).get(model.as_str()).await;
            if declared.is_ok_and(|spec| spec.is_some_and(|spec| spec.check().is_ok())) {
                return Refused { leaves_demand: true, ..refused };
            }
            unknown_model(model.as_str(), known.iter().map(String::as_str))
        }
        Reason::Unserved(failure) | Reason::Overdue(failure) => failure.clone(),
        Reason::Misnamed => Failure::new(FailureCode::InvalidRequest, "the subject of the job is invalid"),
        // Each of these jobs has a failure of its own, and is not refused here.
        Reason::Expired(_) => return refused,
    };
    let mut from = 1;
    loop {
        let batch = match bus.queued_jobs(&refused.filter, from).await {
            Ok(batch) => batch,
            Err(error) => {
                warn!(filter = refused.filter, %error, "the jobs to be refused could not be read");
                return refused;
            }
        };
        let Some(last) = batch.last() else { return refused };
        from = last.sequence + 1;
        // A notice names the subject, and anybody can publish a notice.
        let is_meant = |job: &QueuedJob| !matches!(reason, Reason::Misnamed) || job.misnamed.is_some();
        let (named, idle): (Vec<QueuedJob>, Vec<QueuedJob>) = batch
            .into_iter()
            .filter(is_meant)
            .partition(|job| running.contains(&(job.tenant.clone(), job.job.clone())));
        let answers = stream::iter(idle).map(|queued| async {
            let answered = answer(bus, &queued, &failure, Begun::Leave).await;
            (queued, answered)
        });
        let begun = answers.buffer_unordered(WINDOW).filter_map(|(queued, answered)| async move {
            answered.is_ok_and(|answered| answered == Answered::Begun).then_some(queued)
        });
        let begun: Vec<QueuedJob> = begun.collect().await;
        let unanswered = |queued| Unanswered { queued, reason: reason.clone(), failure: failure.clone() };
        refused.begun.extend(named.into_iter().chain(begun).map(unanswered));
    }
}

/// Answers a job with a failure, in the trace of the job.
pub(super) async fn answer(
    bus: &Bus,
    queued: &QueuedJob,
    failure: &Failure,
    begun: Begun,
) -> Result<Answered, BusError> {
    let span = refusal(&queued.tenant, &queued.job, &queued.trace);
    let answered = bus.answer(queued, failure, begun).instrument(span.clone()).await;
    span.in_scope(|| match &answered {
        Ok(Answered::Yes) => debug!(target: STEPS, "refused: {failure}"),
        Ok(Answered::Begun) => debug!("a worker has begun the job; it is not refused"),
        Err(error) => warn!(job = %queued.job, %error, "a job could not be refused"),
    });
    answered
}

/// Ends a job that no worker runs any more, and that was to be answered when its deadline came. Returns the model of the job if it
/// has left the queue.
async fn end(bus: &Bus, queued: &QueuedJob, failure: &Failure, started: Option<Missed>) -> Option<ModelName> {
    let answered = match started {
        Some(missed) => bus.cut(queued, &missed.failure()).await,
        None => answer(bus, queued, failure, Begun::Leave).await,
    };
    match answered {
        Ok(Answered::Yes) => {
            debug!(job = %queued.job, "the deadline of a job has come after its worker ended");
            queued.model.clone()
        }
        Ok(Answered::Begun) => None,
        Err(error) => {
            warn!(job = %queued.job, %error, "a job could not be ended at its deadline; the worker that receives it does so");
            None
        }
    }
}
