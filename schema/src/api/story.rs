//! The story of one job, and the retry of dead letters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{JobState, QueuePosition};
use crate::{DeadJob, Failure, JobId, JobRun, SubmittedJob, Tenant};

/// Request of `rbee.api.job`: one job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobStoryRequest {
    /// Tenant that owns the job; default `default`.
    #[serde(default)]
    pub tenant: Tenant,
    /// Id of the job.
    pub job: JobId,
}

/// Reply of `rbee.api.job`: what has happened to a job. A job that is not known is refused with `unknown-job`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobStory {
    /// Tenant that owns the job.
    pub tenant: Tenant,
    /// Id of the job.
    pub job: JobId,
    /// State of the job.
    pub state: JobState,
    /// The job as it was queued. Absent if it was refused before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted: Option<SubmittedJob>,
    /// Reason and expected end of the wait, while the job waits for a worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<JobWait>,
    /// Runs of the job, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<JobRun>,
    /// Durations and numbers of tokens, as far as they are known.
    #[serde(default)]
    pub timings: JobTimings,
    /// Reason of the failure, if the job failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Dead letter of the job, without its body, while it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead: Option<Box<DeadJob>>,
    /// Job that was submitted in place of this one, which was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retried_as: Option<JobId>,
    /// Job in whose place this one was submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
    /// Facts of the story, oldest first.
    pub steps: Vec<JobStep>,
    /// Facts that are missing from the steps, each as a sentence: events that were deleted or were too many to be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// Something that happened to a job, or to the workers that it waited for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobStep {
    /// Time by the server's clock (RFC 3339).
    pub at: String,
    /// Name of the event, such as `queued`, `placed`, `started` or `finished`.
    pub event: String,
    /// The event as a sentence.
    pub text: String,
}

/// The wait of a job for a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobWait {
    /// Reason in plain text.
    pub why: String,
    /// Place in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<QueuePosition>,
}

/// Durations and numbers of tokens of a job, as far as they are known.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct JobTimings {
    /// Time from the queue storing the job until a worker began its answer, or until now, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// Time from the queue storing the job until its first tokens or vectors were stored, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_output_ms: Option<u64>,
    /// Time from the queue storing the job until its end, or until now, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_ms: Option<u64>,
    /// Tokens of the prompt, or of all inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u32>,
    /// Tokens or inputs that are answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<u32>,
    /// Tokens or inputs per second, from the first output until the last. Interruptions count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
}

/// Request of `rbee.api.retry`: submit a dead letter again. The new job has an id of its own, because the output of the old id is
/// spent. The dead letter is removed when the new job is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Tenant that owns the job; default `default`.
    #[serde(default)]
    pub tenant: Tenant,
    /// Id of the job that was given up.
    pub job: JobId,
}

/// Reply of `rbee.api.retry`. A job without a dead letter is refused with `unknown-job`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RetryReply {
    /// Tenant that owns both jobs.
    pub tenant: Tenant,
    /// Id of the job that was given up.
    pub job: JobId,
    /// Id of the new job.
    pub retried_as: JobId,
}
