//! The operations of the service `rbee`: what is known of the fleet, jobs by request with streamed replies, and commands
//! to hives for clients that speak in requests.

mod command;
mod look;

use std::time::Duration;

use rbee_nats::{ApiRequest, Bus, Outbox};
use rbee_schema::{
    Chunk, EmbeddingsRequest, Failure, FailureCode, JobId, JobRequest, ModelName, QueenName, Tenant,
    api::{Cancel, CancelReply, Status},
};
use serde::de::DeserializeOwned;
use tracing::{debug, warn};

use crate::{
    decide::fleet::Fleet,
    infer::{self, Inference, Request},
    leader::Standing,
};

/// What a request may be answered from.
pub(crate) struct Context<'a> {
    pub(crate) queen: &'a QueenName,
    pub(crate) fleet: &'a Fleet,
    pub(crate) bus: &'a Bus,
    pub(crate) outbox: &'a Outbox,
    pub(crate) standing: &'a Standing,
}

/// Answers a request from what is known now. Whatever takes time is a task of its own.
pub(crate) fn answer(context: &Context<'_>, request: ApiRequest) {
    let (bus, fleet) = (context.bus.clone(), context.fleet);
    debug!(operation = request.operation(), "asked");
    match request.operation() {
        "status" => {
            let status = look::status(context);
            tokio::spawn(async move {
                let queued = depths(&bus).await.iter().map(|(_, depth)| depth).sum::<u64>();
                let jobs_queued = queued.saturating_sub(u64::from(status.jobs_running));
                request.reply(&Status { jobs_queued, ..status }).await;
            });
        }
        "models" => {
            let mut models = match read(&request).and_then(|page| look::models(fleet, page)) {
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
        "hives" => reply_to(request, |page| look::hives(fleet, page)),
        "workers" => reply_to(request, |page| look::workers(fleet, page)),
        "model" => reply_to(request, |asked| look::model(fleet, asked)),
        "worker" => reply_to(request, |asked| look::worker(fleet, asked)),
        "explain" => reply_to(request, |asked| look::explain(fleet, asked)),
        "cancel" => drop(tokio::spawn(cancel(bus, request))),
        "infer" => drop(tokio::spawn(infer::<JobRequest>(bus, request, fleet.timers.patience))),
        "embed" => drop(tokio::spawn(infer::<EmbeddingsRequest>(bus, request, fleet.timers.patience))),
        "spawn" | "stop" | "reset" | "drain" | "pull" | "rm" => command::carry_out(context, request),
        other => {
            let failure = Failure::new(FailureCode::InvalidRequest, format!("there is no operation `{other}`"));
            reply::<()>(request, Err(failure));
        }
    }
}

/// Reads what is asked; an empty body and `null` stand for an empty object.
fn read<Q: DeserializeOwned>(request: &ApiRequest) -> Result<Q, Failure> {
    let body = match request.body().as_ref() {
        b"" | b"null" => b"{}",
        body => body,
    };
    serde_json::from_slice(body).map_err(|error| {
        let operation = request.operation();
        let message = format!("what was asked of `{operation}` cannot be read: {error}; `rbee schema` shows its shape");
        Failure::new(FailureCode::InvalidRequest, message)
    })
}

fn reply_to<Q: DeserializeOwned, A: serde::Serialize + Send + Sync + 'static>(
    request: ApiRequest,
    answer: impl FnOnce(Q) -> Result<A, Failure>,
) {
    let answer = read(&request).and_then(answer);
    reply(request, answer);
}

fn reply<A: serde::Serialize + Send + Sync + 'static>(request: ApiRequest, answer: Result<A, Failure>) {
    tokio::spawn(async move {
        match answer {
            Ok(answer) => request.reply(&answer).await,
            Err(failure) => request.refuse(&failure).await,
        }
    });
}

async fn depths(bus: &Bus) -> Vec<(ModelName, u64)> {
    bus.queue_depths().await.unwrap_or_else(|error| {
        warn!(%error, "the queue cannot be looked at");
        Vec::new()
    })
}

async fn cancel(bus: Bus, request: ApiRequest) {
    let asked: Result<Cancel, _> = serde_json::from_slice(request.body());
    let Cancel { tenant, job } = match asked {
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

/// Replies with every chunk of the job's output, each at last after `patience`, then with an empty message.
async fn infer<Q: Request + Send + 'static>(bus: Bus, request: ApiRequest, patience: Duration) {
    let job = request.message_id().and_then(|id| id.parse().ok()).unwrap_or_else(JobId::generate);
    let tenant = Tenant::default();
    let started = infer::start::<Q>(&bus, &tenant, job, request.body(), request.trace()).await;
    let Inference { mut output, .. } = match started {
        Ok(inference) => inference,
        Err(failure) => return refuse(&request, failure).await,
    };
    loop {
        match output.next(patience).await {
            Ok(Some(committed)) => request.reply(&committed.chunk).await,
            Ok(None) => return request.end().await,
            Err(error) => {
                return refuse(&request, Failure::new(FailureCode::TimedOut, error.to_string())).await;
            }
        }
    }
}

/// A refused inference is told in the shape of its output: an `error` chunk, and the end.
async fn refuse(request: &ApiRequest, failure: Failure) {
    request.reply(&Chunk::Error { error: failure }).await;
    request.end().await;
}
