//! Events of workers, on `rbee.evt.worker.<hive>.<worker>.<event>`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ExitClass, names::event_names};
use crate::{Failure, MemoryEstimate, ModelName};

/// Event of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum WorkerEvent {
    /// The hive started the worker's process and handed its port over.
    Spawned {
        /// Model that the worker will serve.
        model: ModelName,
        /// Epoch: number of this run of the worker, from 1.
        epoch: u64,
        /// Process id.
        pid: u32,
        /// TCP port of the worker.
        port: u16,
    },
    /// The worker is loading its model.
    Loading {
        /// Epoch: number of this run of the worker.
        epoch: u64,
        /// Part of the model that is read, in percent.
        percent: u8,
        /// Bytes read so far.
        done_bytes: u64,
        /// Bytes to read in all.
        total_bytes: u64,
        /// Memory that the worker will use. Present once the header of the model file is read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        memory: Option<MemoryEstimate>,
    },
    /// The worker takes jobs.
    Ready {
        /// Model that the worker serves.
        model: ModelName,
        /// Epoch: number of this run of the worker.
        epoch: u64,
        /// Number of jobs that the worker runs at once.
        slots: u32,
        /// Context length in tokens, of prompt and answer together.
        context: u32,
        /// Time from the start of the process until ready, in milliseconds.
        load_ms: u64,
    },
    /// A restarted hive found the worker alive and manages it again.
    Adopted {
        /// Model that the worker serves.
        model: ModelName,
        /// Epoch: number of this run of the worker.
        epoch: u64,
        /// Process id.
        pid: u32,
        /// TCP port of the worker.
        port: u16,
    },
    /// The worker sends no heartbeats or is frozen. The hive has not stopped it yet.
    Suspect {
        /// Epoch: number of this run of the worker.
        epoch: u64,
        /// Reason in plain text.
        why: String,
    },
    /// A suspect worker sends heartbeats again.
    Recovered {
        /// Epoch: number of this run of the worker.
        epoch: u64,
        /// Time for which the worker was suspect, in milliseconds.
        after_ms: u64,
    },
    /// The worker takes no further jobs and finishes those that it runs.
    Draining {
        /// Reason in plain text.
        why: String,
    },
    /// The hive asked the worker's process to end, or killed it.
    Stopping {
        /// Reason in plain text.
        why: String,
    },
    /// The worker's process does not end although it was killed. It still holds its port and memory; an operator must act.
    Unkillable {
        /// Process id.
        pid: u32,
        /// Time since the first kill, in milliseconds.
        since_ms: u64,
    },
    /// The worker's process ended.
    Exited {
        /// Model that the worker served.
        model: ModelName,
        /// Epoch: number of this run of the worker.
        epoch: u64,
        /// Class of the exit.
        class: ExitClass,
        /// Exit code, if the process exited with one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
        /// Signal that ended the process, if one did (9 is SIGKILL).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// Reason in plain text.
        #[serde(default)]
        why: String,
        /// Number of unfinished jobs that went back to the queue.
        jobs_returned: u32,
        /// Last lines of the worker's standard error.
        stderr_tail: Vec<String>,
    },
    /// The hive will restart the worker after a backoff.
    Restarting {
        /// Epoch of the next run.
        epoch: u64,
        /// Restart backoff in milliseconds.
        delay_ms: u64,
        /// Reason in plain text.
        why: String,
    },
    /// The worker is in a crash loop: it exited too often. The hive now retries it rarely, and the queen places the model
    /// elsewhere where it can.
    CrashLooped {
        /// Model that the worker should serve.
        model: ModelName,
        /// Failure that describes the crash loop.
        failure: Failure,
        /// Time until the next retry, in milliseconds.
        retry_ms: u64,
    },
    /// The hive refused to start the worker, or gave it up.
    Failed {
        /// Model that the worker should serve.
        model: ModelName,
        /// Reason of the failure.
        failure: Failure,
    },
    /// The worker was stopped for good, as requested. Its record is gone.
    Removed {
        /// Model that the worker served.
        model: ModelName,
        /// Reason in plain text.
        why: String,
    },
    /// The hive received a message that does not fit the worker's state. It was counted and ignored.
    Ignored {
        /// Message that was received.
        received: String,
        /// State that the worker was in.
        state: String,
    },
}

event_names!(WorkerEvent {
    Spawned => "spawned",
    Loading => "loading",
    Ready => "ready",
    Adopted => "adopted",
    Suspect => "suspect",
    Recovered => "recovered",
    Draining => "draining",
    Stopping => "stopping",
    Unkillable => "unkillable",
    Exited => "exited",
    Restarting => "restarting",
    CrashLooped => "crash-looped",
    Failed => "failed",
    Removed => "removed",
    Ignored => "ignored",
});
