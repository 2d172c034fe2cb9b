//! Operations of the NATS service `rbee`: the state of the fleet, jobs by request with streamed replies, and commands to
//! hives.

mod batches;
mod command;
mod context;
mod document;
mod exchange;
mod jobs;
mod listing;
mod position;
mod retry;
mod running;
mod story;
mod tenants;

use std::time::{Duration, Instant};

use bytes::Bytes;
use rbee_nats::{ApiRequest, BodyError, Bus, Outbox, unknown_job};
use rbee_schema::{
    Chunk, Deadlines, Event, Failure, FailureCode, JobEvent, JobId, ModelName, Tenant,
    api::{Cancel, CancelReply, JobState, Status},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::task::spawn_blocking;
use tracing::{debug, warn};

pub(crate) use self::context::Context;
use self::{
    exchange::{read, reply, reply_to},
    running::Running,
    story::Teller,
};
use crate::{
    inference::{ClientJob, Inference, Request, cancel as cancel_job, shutting_down},
    large_bodies::LargeBodies,
    open_answers::OpenAnswers,
};

/// Answers a request from the state of the fleet. Work that takes time runs in a task of its own.
pub(crate) fn answer(context: &Context<'_>, request: ApiRequest) {
    let (bus, fleet) = (context.bus.clone(), context.fleet);
    debug!(operation = request.operation(), "a request arrived");
    match request.operation() {
        "status" => {
            let status = document::status(context);
            tokio::spawn(async move {
                let queued = depths(&bus).await.iter().map(|(_, depth)| depth).sum::<u64>();
                let jobs_queued = queued.saturating_sub(u64::from(status.jobs_running));
                request.reply(&Status { jobs_queued, ..status }).await;
            });
        }
        "models" => {
            let mut models = match read(&request).and_then(|page| listing::models(fleet, page)) {
                Ok(models) => models,
                Err(failure) => return reply::<()>(request, Err(failure)),
            };
            tokio::spawn(async move {
                let depths = depths(&bus).await;
                for model in &mut models.models {
                    let depth = depths.iter().find(|(name, _)| *name == model.name).map_or(0, |(_, depth)| *depth);
                    model.jobs_queued = depth.saturating_sub(u64::from(model.jobs_running));
                }
                request.reply(&models).await;
            });
        }
        "hives" => reply_to(request, |page| listing::hives(fleet, page)),
        "workers" => reply_to(request, |page| listing::workers(fleet, page)),
        "model" => reply_to(request, |query| document::model(fleet, query)),
        "worker" => reply_to(request, |query| document::worker(fleet, query)),
        "explain" => reply_to(request, |query| document::explain(fleet, query)),
        "tenants" => list_tenants(context, request),
        "jobs" => list_jobs(context, request),
        "job" => tell_job(context, request),
        "retry" => retry_dead_letter(context, request),
        "batch-run" => with_bus(context, request, |bus, query| async move { batches::run(&bus, query).await }),
        "batch" => with_bus(context, request, |bus, query| async move { batches::get(&bus, query).await }),
        "batches" => with_bus(context, request, |bus, query| async move { batches::list(&bus, query).await }),
        "batch-cancel" => with_bus(context, request, |bus, query| async move { batches::cancel(&bus, query).await }),
        "cancel" => cancel(context, request),
        "infer" => context.open.spawn(infer(Relay::new(context), request, Request::read_chat)),
        "embed" => context.open.spawn(infer(Relay::new(context), request, Request::read_embeddings)),
        "spawn" | "stop" | "reset" | "drain" | "pull" | "rm" => command::carry_out(context, request),
        other => {
            let failure = Failure::new(
                FailureCode::InvalidRequest,
                format!("unknown operation `{other}`: `rbee schema` lists the operations"),
            );
            reply::<()>(request, Err(failure));
        }
    }
}

async fn depths(bus: &Bus) -> Vec<(ModelName, u64)> {
    bus.queue_depths().await.unwrap_or_else(|error| {
        warn!(%error, "the job queue could not be counted");
        Vec::new()
    })
}

/// Replies with a page of tenants.
fn list_tenants(context: &Context<'_>, request: ApiRequest) {
    let page = match read(&request) {
        Ok(page) => page,
        Err(failure) => return reply::<()>(request, Err(failure)),
    };
    let snapshot = tenants::Snapshot::of(context.fleet, context.tenants, Instant::now());
    let bus = context.bus.clone();
    tokio::spawn(async move {
        match tenants::list(&bus, snapshot, page).await {
            Ok(page) => request.reply(&page).await,
            Err(failure) => request.refuse(&failure).await,
        }
    });
}

/// Replies with an answer that is read from the bus.
fn with_bus<Q: DeserializeOwned, A: Serialize + Send + Sync, Answer>(
    context: &Context<'_>,
    request: ApiRequest,
    answer: impl FnOnce(Bus, Q) -> Answer,
) where
    Answer: Future<Output = Result<A, Failure>> + Send + 'static,
{
    let query = match read(&request) {
        Ok(query) => query,
        Err(failure) => return reply::<()>(request, Err(failure)),
    };
    let answer = answer(context.bus.clone(), query);
    tokio::spawn(async move {
        match answer.await {
            Ok(answer) => request.reply(&answer).await,
            Err(failure) => request.refuse(&failure).await,
        }
    });
}

/// Replies with a page of jobs.
fn list_jobs(context: &Context<'_>, request: ApiRequest) {
    let query = match read(&request) {
        Ok(query) => query,
        Err(failure) => return reply::<()>(request, Err(failure)),
    };
    let (bus, running) = (context.bus.clone(), Running::of(context.fleet));
    tokio::spawn(async move {
        match jobs::list(&bus, &running, query).await {
            Ok(page) => request.reply(&page).await,
            Err(failure) => request.refuse(&failure).await,
        }
    });
}

/// Replies with the story of a job.
fn tell_job(context: &Context<'_>, request: ApiRequest) {
    let query = match read(&request) {
        Ok(query) => query,
        Err(failure) => return reply::<()>(request, Err(failure)),
    };
    let (bus, finder, running) = (context.bus.clone(), context.finder.clone(), Running::of(context.fleet));
    tokio::spawn(async move {
        match (Teller { bus, finder, running }).tell(query).await {
            Ok(story) => request.reply(&story).await,
            Err(failure) => request.refuse(&failure).await,
        }
    });
}

/// Submits a dead letter again, and replies with the id of the new job.
fn retry_dead_letter(context: &Context<'_>, request: ApiRequest) {
    let query = match read(&request) {
        Ok(query) => query,
        Err(failure) => return reply::<()>(request, Err(failure)),
    };
    let (bus, finder) = (context.bus.clone(), context.finder.clone());
    let declared = context.fleet.models().keys().cloned().collect();
    tokio::spawn(async move {
        match retry::retry(&bus, &finder, &declared, query).await {
            Ok(retried) => request.reply(&retried).await,
            Err(failure) => request.refuse(&failure).await,
        }
    });
}

/// Requests the cancellation of a job that waits or runs, and replies with its state.
fn cancel(context: &Context<'_>, request: ApiRequest) {
    let Cancel { tenant, job } = match read(&request) {
        Ok(cancel) => cancel,
        Err(failure) => return reply::<()>(request, Err(failure)),
    };
    let is_running = context.fleet.worker_with(&tenant, &job).is_some();
    let (bus, finder) = (context.bus.clone(), context.finder.clone());
    tokio::spawn(async move {
        let state = if is_running { Ok(Some(JobState::Running)) } else { bus.job_state(&finder, &tenant, &job).await };
        let cancelled = match state {
            Ok(None) => return request.refuse(&unknown_job(&tenant, &job)).await,
            Ok(Some(JobState::Finished)) => Ok(JobState::Finished),
            Ok(Some(state)) => bus.cancel(&tenant, &job).await.map(|()| state),
            Err(error) => Err(error),
        };
        match cancelled {
            Ok(state) => request.reply(&CancelReply { job, state }).await,
            Err(error) => request.refuse(&Failure::new(FailureCode::TimedOut, error.to_string())).await,
        }
    });
}

/// Handles for relaying an answer.
struct Relay {
    bus: Bus,
    outbox: Outbox,
    open: OpenAnswers,
    large: LargeBodies,
    /// Longest time between two chunks.
    timeout: Duration,
    /// Time limit for reading a stored body.
    upload: Duration,
}

impl Relay {
    fn new(context: &Context<'_>) -> Self {
        let timers = context.fleet.timers();
        Self {
            bus: context.bus.clone(),
            outbox: context.outbox.clone(),
            open: context.open.clone(),
            large: context.large.clone(),
            timeout: timers.patience,
            upload: timers.upload,
        }
    }

    /// Reads the body of a request, or the stored body that it names. The job then names the same one.
    async fn read(
        &self,
        request: &ApiRequest,
        tenant: &Tenant,
        read: fn(&Bytes) -> Result<Request, Failure>,
    ) -> Result<Request, Failure> {
        let Some(stored) = request.stored_body(tenant)? else { return read(request.body()) };
        let fetched = async {
            let _place = self.large.place().await?;
            let body = self.bus.fetch_body(&stored).await.map_err(|error| match error {
                BodyError::Failed(failure) => failure,
                BodyError::Bus(error) => Failure::new(FailureCode::TimedOut, error.to_string()),
            })?;
            let panicked = |_| Failure::new(FailureCode::Internal, "the body could not be parsed");
            spawn_blocking(move || read(&body)).await.map_err(panicked)?
        };
        // Timer: others wait for the place of a large body.
        let fetched = tokio::time::timeout(self.upload, fetched).await;
        let late =
            |_| Failure::new(FailureCode::TimedOut, "the stored body was not read in time: send the request again");
        Ok(fetched.map_err(late)??.with_stored_body(stored))
    }
}

/// Submits a job and replies with every chunk of its output, then with an empty message. Fails after `timeout` without a chunk.
/// The job is cancelled if its requester is gone, or gets no more of the answer.
async fn infer(relay: Relay, request: ApiRequest, read: fn(&Bytes) -> Result<Request, Failure>) {
    let tenant = Tenant::default();
    let job = request.job_id(&tenant).unwrap_or_else(|| Ok(JobId::generate()));
    let client_job = ClientJob {
        tenant: tenant.clone(),
        job: job.clone().unwrap_or_else(|_| JobId::generate()),
        trace: request.trace(),
        deadlines: Deadlines::default(),
    };
    let checked = match job.and_then(|_| request.deadlines()) {
        Ok(deadlines) => relay.read(&request, &tenant, read).await.map(|read| (read, deadlines)),
        Err(failure) => Err(failure),
    };
    let Relay { bus, outbox, open, timeout, .. } = relay;
    let submitted = match checked {
        Ok((request, deadlines)) => ClientJob { deadlines, ..client_job.clone() }.submit(&bus, request).await,
        Err(failure) => {
            client_job.record_refusal(&bus, &failure);
            Err(failure)
        }
    };
    let ClientJob { tenant, job, .. } = client_job;
    let mut replies = match request.stream(&job).await {
        Ok(replies) => replies,
        Err(error) => {
            warn!(%error, "a request for an answer could not be replied to");
            return cancel_job(&bus, &tenant, &job).await;
        }
    };
    let Inference { mut output, .. } = match submitted {
        Ok(inference) => inference,
        Err(failure) => {
            let failed = JobEvent::Failed { failure: failure.clone(), usage: None, submitted: None };
            outbox.publish(&Event::Job(tenant, job, failed));
            return replies.fail(&failure).await;
        }
    };
    let failure = loop {
        let next = tokio::select! {
            biased;
            () = open.must_end() => break shutting_down(),
            missed = replies.next_undelivered() => {
                if replies.send_again(missed).await {
                    continue;
                }
                debug!(%job, "the requester of an answer is gone; its job is cancelled");
                return cancel_job(&bus, &tenant, &job).await;
            }
            next = output.next(timeout) => next,
        };
        match next {
            Ok(Some(committed)) => match committed.chunk {
                Chunk::Error { error } => return replies.fail(&error).await,
                chunk => replies.send(&chunk).await,
            },
            Ok(None) => return replies.end().await,
            Err(error) => break error.into(),
        }
    };
    cancel_job(&bus, &tenant, &job).await;
    replies.fail(&failure).await;
}
