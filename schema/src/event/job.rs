//! Events of jobs, on `rbee.evt.job.<tenant>.<job>.<event>`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::event_names;
use crate::{Failure, FinishReason, HiveName, Usage, WorkerName};

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
    },
    /// The job's worker ended. The job is in the queue again.
    Returned {
        /// Hive of the worker.
        hive: HiveName,
        /// Name of the worker.
        worker: WorkerName,
    },
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
    },
}

event_names!(JobEvent {
    Started => "started",
    Returned => "returned",
    Finished => "finished",
    Failed => "failed",
});
