//! Operations of the NATS service `rbee`: the state of the fleet, jobs by request with streamed replies, and commands to
//! hives.

mod command;
mod context;
mod document;
mod exchange;
mod listing;

use std::time::Duration;

use bytes::Bytes;
use rbee_nats::{ApiRequest, Bus};
use rbee_schema::{
    Chunk, Failure, FailureCode, JobId, ModelName, Tenant,
    api::{Cancel, CancelReply, Status},
};
use tracing::{debug, warn};

pub(crate) use self::context::Context;
use self::exchange::{read, reply, reply_to};
use crate::inference::{ClientJob, Inference, Request};

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
        "cancel" => drop(tokio::spawn(cancel(bus, request))),
        "infer" => drop(tokio::spawn(infer(bus, request, Request::read_chat, fleet.timers().patience))),
        "embed" => drop(tokio::spawn(infer(bus, request, Request::read_embeddings, fleet.timers().patience))),
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

async fn cancel(bus: Bus, request: ApiRequest) {
    let cancel: Result<Cancel, _> = serde_json::from_slice(request.body());
    let Cancel { tenant, job } = match cancel {
        Ok(cancel) => cancel,
        Err(error) => {
            let failure = Failure::new(FailureCode::InvalidRequest, format!("expected {{\"job\":\"ID\"}}: {error}"));
            return request.refuse(&failure).await;
        }
    };
    match bus.cancel(&tenant, &job).await {
        Ok(()) => request.reply(&CancelReply { job }).await,
        Err(error) => request.refuse(&Failure::new(FailureCode::TimedOut, error.to_string())).await,
    }
}

/// Submits a job and replies with every chunk of its output, then with an empty message. Fails after `timeout` without a
/// chunk.
async fn infer(bus: Bus, request: ApiRequest, read: fn(&Bytes) -> Result<Request, Failure>, timeout: Duration) {
    let job = request.message_id().and_then(|id| id.parse().ok()).unwrap_or_else(JobId::generate);
    let client_job = ClientJob { tenant: Tenant::default(), job, trace: request.trace() };
    let submitted = match read(request.body()) {
        Ok(request) => client_job.submit(&bus, request).await,
        Err(failure) => {
            client_job.record_refusal(&bus, &failure);
            Err(failure)
        }
    };
    let Inference { mut output, .. } = match submitted {
        Ok(inference) => inference,
        Err(failure) => return refuse(&request, failure).await,
    };
    loop {
        match output.next(timeout).await {
            Ok(Some(committed)) => request.reply(&committed.chunk).await,
            Ok(None) => return request.end().await,
            Err(error) => {
                return refuse(&request, Failure::new(FailureCode::TimedOut, error.to_string())).await;
            }
        }
    }
}

/// Replies to a refused job as to any other: with an `error` chunk and the end.
async fn refuse(request: &ApiRequest, failure: Failure) {
    request.reply(&Chunk::Error { error: failure }).await;
    request.end().await;
}
