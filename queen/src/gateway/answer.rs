//! A job that was submitted for an HTTP request, and its output. If the client disconnects, the job is cancelled.

use std::time::Duration;

use axum::http::HeaderMap;
use rbee_nats::trace::{TRACEPARENT, TRACESTATE, TraceContext};
use rbee_nats::{Bus, OutputReader};
use rbee_schema::{Chunk, Deadlines, Failure, FailureCode, JobId, ModelName, Tenant};
use tracing::debug;

use super::service::Service;
use crate::{
    inference::{ClientJob, Inference, Request, cancel, shutting_down},
    metrics,
    open_answers::OpenAnswers,
};

/// A submitted job and its answer.
pub(super) struct Submitted {
    pub(super) job: JobId,
    pub(super) model: ModelName,
    pub(super) answer: Answer,
}

/// Submits a request as a job.
///
/// # Errors
/// The reason why the job was not accepted.
pub(super) async fn submit(service: &Service, headers: &HeaderMap, request: Request) -> Result<Submitted, Failure> {
    let Service { bus, output_timeout, open, .. } = service;
    let measured = metrics::Answer::start();
    let client_job = client_job(headers);
    let submitted = match deadlines(headers) {
        Ok(deadlines) => ClientJob { deadlines, ..client_job.clone() }.submit(bus, request).await,
        Err(failure) => {
            client_job.record_refusal(bus, &failure);
            Err(failure)
        }
    };
    let Inference { model, output } = submitted.inspect_err(|failure| measured.refused(failure))?;
    let ClientJob { tenant, job, .. } = client_job;
    let guard = CancelOnDrop { bus: bus.clone(), open: open.clone(), tenant, job: job.clone(), is_done: false };
    Ok(Submitted { job, model, answer: Answer { output, timeout: *output_timeout, measured, guard } })
}

/// Records in the metrics and in the client's trace that a request was refused.
pub(super) fn record_refusal(service: &Service, headers: &HeaderMap, failure: &Failure) {
    metrics::Answer::start().refused(failure);
    client_job(headers).record_refusal(&service.bus, failure);
}

fn client_job(headers: &HeaderMap) -> ClientJob {
    let (tenant, job) = (Tenant::default(), JobId::generate());
    ClientJob { tenant, job, trace: trace(headers), deadlines: Deadlines::default() }
}

/// Deadlines that the client states in its headers.
fn deadlines(headers: &HeaderMap) -> Result<Deadlines, Failure> {
    // What is no text is no duration either.
    Deadlines::read(headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or("?"))))
}

/// Trace of the client, from its headers.
fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    let parent = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let state: Vec<&str> = headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok()).collect();
    Some(TraceContext::read(parent)?.with_state(&state.join(",")))
}

/// Cancels a job when it is dropped before the job is done: then the client has disconnected, or gets no more of the answer.
struct CancelOnDrop {
    bus: Bus,
    open: OpenAnswers,
    tenant: Tenant,
    job: JobId,
    is_done: bool,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        debug!(job = %self.job, "the client has disconnected; its job is cancelled");
        let (bus, tenant, job) = (self.bus.clone(), self.tenant.clone(), self.job.clone());
        self.open.spawn(async move { cancel(&bus, &tenant, &job).await });
    }
}

/// Output of a job, chunk by chunk.
pub(super) struct Answer {
    output: OutputReader,
    timeout: Duration,
    measured: metrics::Answer,
    guard: CancelOnDrop,
}

impl Answer {
    /// The next chunk. If the output cannot be read, that is an error chunk.
    pub(super) async fn next(&mut self) -> Chunk {
        let next = tokio::select! {
            biased;
            () = self.guard.open.must_end() => return Chunk::Error { error: shutting_down() },
            next = self.output.next(self.timeout) => next,
        };
        let chunk = match next {
            Ok(Some(committed)) => committed.chunk,
            Ok(None) => {
                let ended = "the output ended without a last chunk";
                return Chunk::Error { error: Failure::new(FailureCode::TimedOut, ended) };
            }
            Err(error) => return Chunk::Error { error: error.into() },
        };
        self.measured.record_chunk(&chunk);
        self.guard.is_done = chunk.is_last();
        chunk
    }
}
