//! A request that has become a job, and the output of that. A client that goes away cancels it.

use std::time::Duration;

use axum::http::HeaderMap;
use bytes::Bytes;
use rbee_nats::trace::{TRACEPARENT, TRACESTATE, TraceContext};
use rbee_nats::{Bus, OutputReader};
use rbee_schema::{Chunk, Failure, FailureCode, JobId, ModelName, Tenant};
use tracing::debug;

use crate::{
    infer::{self, Inference, Request},
    metrics::Answer,
};

/// A job that was submitted.
pub(super) struct Begun<Q> {
    pub(super) job: JobId,
    pub(super) model: ModelName,
    pub(super) request: Q,
    pub(super) reading: Reading,
}

impl<Q: Request> Begun<Q> {
    /// Checks a request and submits it.
    ///
    /// # Errors
    /// What is wrong with it, or why it was not accepted.
    pub(super) async fn new(bus: Bus, patience: Duration, headers: &HeaderMap, body: &Bytes) -> Result<Self, Failure> {
        let (tenant, answer) = (Tenant::default(), Answer::start());
        let started = infer::start(&bus, &tenant, JobId::generate(), body, trace(headers)).await;
        let Inference { job, model, request, output } = started.inspect_err(|failure| answer.refused(failure))?;
        let guard = Guard { bus, tenant, job: job.clone(), done: false };
        Ok(Self { job, model, request, reading: Reading { output, patience, answer, guard } })
    }
}

/// The trace that the client put it in.
fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    let parent = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let beside: Vec<&str> = headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok()).collect();
    Some(TraceContext::read(parent)?.with_state(&beside.join(",")))
}

/// Cancels the job when its client goes away before it is done.
struct Guard {
    bus: Bus,
    tenant: Tenant,
    job: JobId,
    done: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        debug!(job = %self.job, "the client is gone");
        let (bus, tenant, job) = (self.bus.clone(), self.tenant.clone(), self.job.clone());
        tokio::spawn(async move { bus.cancel(&tenant, &job).await });
    }
}

/// The output of a job, as it comes.
pub(super) struct Reading {
    output: OutputReader,
    patience: Duration,
    answer: Answer,
    guard: Guard,
}

impl Reading {
    /// The next chunk; a failure to read is one too.
    pub(super) async fn next(&mut self) -> Chunk {
        let chunk = match self.output.next(self.patience).await {
            Ok(Some(committed)) => committed.chunk,
            Ok(None) => error_chunk("the output has ended without a last chunk".to_owned()),
            Err(error) => return error_chunk(error.to_string()),
        };
        self.answer.record_chunk(&chunk);
        self.guard.done = chunk.is_last();
        chunk
    }
}

fn error_chunk(message: String) -> Chunk {
    Chunk::Error { error: Failure::new(FailureCode::TimedOut, message) }
}
