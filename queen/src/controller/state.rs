//! Parts of the controller's state that several of its files use.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, SystemTime},
};

use rbee_nats::QueuedJob;
use rbee_schema::{Failure, JobId, Missed, ModelName, Tenant};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    decide::{alert::Alerts, fleet::WorkerKey, tenants::Tenants},
    leader::Leadership,
};

/// State of a queen that leads. A follower keeps none but its [`Leadership`].
#[derive(Default)]
pub(super) struct Leading {
    pub(super) leadership: Leadership,
    /// Models that were reported as unplaceable, with the failure.
    pub(super) unplaceable: BTreeMap<ModelName, Failure>,
    pub(super) alerts: Alerts,
    /// Task that seals the trail of events.
    pub(super) sealer: Option<AbortOnDropHandle<()>>,
    /// Task that deletes old output.
    pub(super) pruner: Option<AbortOnDropHandle<()>>,
    /// Tasks that run batches and delete old ones.
    pub(super) batches: Vec<AbortOnDropHandle<()>>,
    /// Task that deletes stored bodies without a job.
    pub(super) body_sweeper: Option<AbortOnDropHandle<()>>,
}

/// State of counting.
#[derive(Debug, Default)]
pub(super) struct Counting {
    /// Start of the last count.
    pub(super) started: Option<Instant>,
    pub(super) is_running: bool,
}

/// Refusals that run and wait, by the filter of the jobs' subjects.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    pub(super) running: BTreeSet<String>,
    pub(super) waiting: BTreeMap<String, Reason>,
    /// Jobs that a worker has begun. They are answered when it ends without having answered them.
    pub(super) begun: BTreeMap<(Tenant, JobId), Unanswered>,
}

/// Reason why jobs are refused.
#[derive(Debug, Clone)]
pub(super) enum Reason {
    /// Their model is not declared.
    Undeclared(ModelName),
    /// Their model cannot be served.
    Unserved(Failure),
    /// Their model was not served in time. Jobs of another class wait on.
    Overdue(Failure),
    /// Their deadline has come. Holds the deadline that a job has missed if a worker has begun it.
    Expired(Option<Missed>),
    /// Their subject or id is invalid.
    Misnamed,
}

/// Job that is to be answered with a failure.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) queued: QueuedJob,
    pub(super) reason: Reason,
    pub(super) failure: Failure,
}

/// Result of a refusal.
pub(super) struct Refused {
    pub(super) filter: String,
    /// Jobs that a worker has begun.
    pub(super) begun: Vec<Unanswered>,
    /// Jobs of the model may be left, and no refusal waits for them.
    pub(super) leaves_demand: bool,
}

/// Result of answering jobs whose deadline has come.
#[derive(Default)]
pub(super) struct Expired {
    /// Models of the jobs that have left the queue.
    pub(super) left: Vec<ModelName>,
    /// Jobs that a worker has begun.
    pub(super) begun: Vec<Unanswered>,
    /// True if a job could not be answered.
    pub(super) has_failed: bool,
    /// True if this was the task that looks at jobs.
    pub(super) was_look: bool,
}

/// Cancellations that wait for this queen.
#[derive(Debug, Default)]
pub(super) struct Cancels {
    pub(super) waiting: Vec<Cancelled>,
    pub(super) is_running: bool,
    /// Cancelled jobs that a worker runs, and the worker. If it ends before it has answered the job, the job waits again.
    pub(super) running: BTreeMap<(Tenant, JobId), WorkerKey>,
}

/// A cancelled job.
#[derive(Debug)]
pub(super) struct Cancelled {
    pub(super) tenant: Tenant,
    pub(super) job: JobId,
    /// Time of a cancellation from before this queen led. A job that was queued later is another one of the same id.
    pub(super) stored: Option<SystemTime>,
}

/// Tenants, and the refusal of their jobs beyond the limit.
#[derive(Debug)]
pub(super) struct TenantState {
    pub(super) known: Tenants,
    /// Set while a task refuses jobs. Until it has ended, a count of the queue includes them.
    pub(super) is_refusing: bool,
}

impl TenantState {
    pub(super) fn new(known: Tenants) -> Self {
        Self { known, is_refusing: false }
    }
}

/// Tokens of a job that has ended.
#[derive(Debug)]
pub(super) struct UsedTokens {
    pub(super) tenant: Tenant,
    pub(super) tokens: u64,
    /// Time since the end of the job.
    pub(super) age: Duration,
}
