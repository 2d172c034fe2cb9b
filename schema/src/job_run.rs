//! A job as it was queued, and its runs. Events, dead letters and the story of a job have them in common.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{HiveName, JobClass, ModelName, WorkerName};

/// Job as it was queued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubmittedJob {
    /// Model that the job is for.
    pub model: ModelName,
    /// Class of the job.
    pub class: JobClass,
    /// Size of its body in bytes.
    pub bytes: u64,
    /// Time at which the server stored the job (RFC 3339).
    pub queued: String,
}

/// Run of a job in one worker. The events of the job tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobRun {
    /// Hive of the worker.
    pub hive: HiveName,
    /// Name of the worker.
    pub worker: WorkerName,
    /// Attempt: number of the delivery, from 1. Absent if the worker ended before it stored output of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
    /// Index of the first token or input that this run was to compute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Time at which the run began its part of the answer (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// Time at which the run ended (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// End of the run. Absent while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<RunEnd>,
}

/// End of a run of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RunEnd {
    /// The answer is complete.
    Finished,
    /// The job failed or was cancelled.
    Failed,
    /// The worker returned the job to the queue.
    Paused,
    /// The worker ended in a way that the job may have caused.
    Blamed,
    /// The worker ended in another way, or was lost.
    Lost,
}
