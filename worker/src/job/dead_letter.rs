//! The dead letter of a job that is given up: everything that a person needs to find the cause, and to submit the job again.

use rbee_nats::{Delivery, StoredChunk};
use rbee_schema::{Chunk, DeadJob, Failure, JobBlame, SubmittedJob, WorkerExit};
use tracing::warn;

use super::shared::Shared;

/// Number of runs in a dead letter, the last ones. A job is given up after two or three.
const RUNS: usize = 32;

/// A job that is given up.
pub(super) struct GivenUp<'a> {
    pub(super) delivery: &'a Delivery,
    pub(super) failure: &'a Failure,
    pub(super) blame: Option<&'a JobBlame>,
    /// Chunks that earlier attempts have stored.
    pub(super) stored: &'a [StoredChunk],
}

/// The job as its events and its dead letter describe it.
pub(super) fn submitted(shared: &Shared, delivery: &Delivery) -> SubmittedJob {
    SubmittedJob {
        model: shared.identity.model.clone(),
        class: delivery.class,
        bytes: delivery.body().len() as u64,
        queued: rbee_nats::rfc3339(delivery.stored),
    }
}

/// Stores the dead letter, unless the job was given up before and its dead letter was submitted again. A failure is logged: the
/// job ends all the same.
pub(super) async fn store(shared: &Shared, given_up: GivenUp<'_>) {
    let GivenUp { delivery, failure, blame, stored } = given_up;
    let Delivery { tenant, job, attempt, .. } = delivery;
    let history = shared.bus.job_history(tenant, job).await.unwrap_or_else(|error| {
        warn!(%job, %error, "failed to read the events of the job; its dead letter lists no runs");
        rbee_nats::JobHistory::default()
    });
    let history = history.since(delivery.stored);
    if history.is_retried() {
        return;
    }
    let mut runs = history.runs();
    runs.drain(..runs.len().saturating_sub(RUNS));
    let prompt_tokens = stored.iter().find_map(|stored| match stored.chunk {
        Chunk::Started { prompt_tokens, .. } => Some(prompt_tokens),
        _ => None,
    });
    let exit = blame.map(|blame| WorkerExit { stderr_tail: blame.stderr_tail.clone(), ..WorkerExit::of_blame(blame) });
    let dead = DeadJob {
        tenant: tenant.clone(),
        job: job.clone(),
        submitted: Some(submitted(shared, delivery)),
        prompt_tokens,
        attempts: *attempt,
        runs,
        failure: failure.clone(),
        exit,
        blame: blame.map(|blame| JobBlame { stderr_tail: Vec::new(), ..blame.clone() }),
        body: String::from_utf8_lossy(delivery.body()).into_owned(),
        body_object: delivery.stored_body().ok().flatten().map(|body| body.object),
    };
    if let Err(error) = shared.bus.store_dead_job(&shared.identity.model, &dead).await {
        warn!(%job, %error, "failed to store the job in the dead-letter stream");
    }
}
