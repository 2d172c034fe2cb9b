//! Events of jobs, on `rbee.evt.job.<tenant>.<job>.<event>`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ExitClass;
use super::names::event_names;
use crate::{Failure, FinishReason, HiveName, JobId, SubmittedJob, Usage, WorkerName};

/// Event of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum JobEvent {
    /// A worker took the job.
    Started {
        /// Hive of the worker.
        hive: HiveName,
        /// Name of the worker.
        worker: WorkerName,
        /// Attempt: number of this delivery of the job, from 1.
        attempt: u64,
        /// Index of the first token or input that this attempt computes.
        #[serde(default)]
        index: u32,
        /// The job as it was queued.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<SubmittedJob>,
    },
    /// The worker returned the job to the queue. Another one will continue it.
    Paused {
        /// Hive of the worker.
        hive: HiveName,
        /// Name of the worker.
        worker: WorkerName,
        /// Index of the next token or input.
        index: u32,
        /// Reason in plain text.
        why: String,
    },
    /// The job's worker ended. The job is in the queue again.
    Returned {
        /// Hive of the worker.
        hive: HiveName,
        /// Name of the worker.
        worker: WorkerName,
    },
    /// The job's worker ended in a way that the job may have caused.
    Blamed(JobBlame),
    /// The job was answered.
    Finished {
        /// Reason for the end of the answer.
        finish_reason: FinishReason,
        /// Tokens used.
        usage: Usage,
        /// Time from the worker taking the job until the end of the answer, in milliseconds.
        duration_ms: u64,
    },
    /// The job was refused, cancelled or given up.
    Failed {
        /// Reason of the failure.
        failure: Failure,
        /// Tokens used until then, if a worker had begun the job.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Usage>,
        /// The job as it was queued. Absent if it was refused before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<SubmittedJob>,
    },
    /// The job, a dead letter, was submitted again.
    Retried {
        /// Id of the new job. The output of the old id is spent.
        retried_as: JobId,
    },
    /// The job was submitted in place of a dead letter.
    Resubmitted {
        /// Id of the job that was given up.
        retry_of: JobId,
    },
}

/// Blame of a job: the ends of its workers that it may have caused. Each event of a job repeats and extends the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobBlame {
    /// Hive of the worker that ended last.
    pub hive: HiveName,
    /// Name of that worker.
    pub worker: WorkerName,
    /// Class of its exit.
    pub class: ExitClass,
    /// Exit code, if the process exited by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Number of the signal that ended the process, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Number of other jobs that this worker ran when it ended.
    pub company: u32,
    /// Number of workers that ended so while they ran this job alone.
    pub alone: u32,
    /// Number of workers that ended so while they ran this job and others.
    pub together: u32,
    /// Sequence of the job's last stored chunk when the worker ended; 0 if there was none.
    pub last_chunk: u64,
    /// Last lines of the worker's standard error, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stderr_tail: Vec<String>,
}

event_names!(JobEvent {
    Started => "started",
    Paused => "paused",
    Returned => "returned",
    Blamed => "blamed",
    Finished => "finished",
    Failed => "failed",
    Retried => "retried",
    Resubmitted => "resubmitted",
});
