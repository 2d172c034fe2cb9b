//! Events of a worker, and the effects that answer them.

use rbee_schema::{Failure, JobInFlight, ModelName, ModelSpec, StopMode, WorkerEvent, WorkerName, WorkerRecord};

use super::{claims::Returns, process_exit::ProcessExit};

/// Something that happened to a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The process runs and listens on its port.
    Started {
        /// Process number.
        pid: u32,
        /// Leased port.
        port: u16,
    },
    /// The worker could not be started. Nothing is left of the attempt.
    NotStarted(Failure),
    /// The worker reported progress of its load.
    Loading {
        /// Run that reported it.
        epoch: u64,
        /// Bytes read.
        done_bytes: u64,
        /// Bytes to read.
        total_bytes: u64,
    },
    /// The worker reported that it takes jobs.
    Ready {
        /// Run that reported it.
        epoch: u64,
    },
    /// The worker sent a heartbeat. It does so from the time when it is ready.
    Heartbeat {
        /// Run that sent it.
        epoch: u64,
        /// Jobs in flight.
        jobs: Vec<JobInFlight>,
        /// Steps of the engine so far.
        steps: u64,
        /// Number of jobs that make no progress because the server does not store their output.
        blocked: u32,
    },
    /// The worker's health was checked over HTTP.
    Health {
        /// Run that was checked.
        epoch: u64,
        /// True where the worker answered that it is healthy.
        healthy: bool,
    },
    /// The kernel reports that the process was stopped (SIGSTOP).
    Frozen,
    /// The worker is to stop.
    Stop {
        /// Reason, for people.
        why: String,
        /// Treatment of its jobs.
        mode: StopMode,
    },
    /// The worker is to be started, even after a failure.
    Reset,
    /// The process exited.
    Exited(ProcessExit),
    /// The time of [`Worker::deadline`] has come.
    DeadlinePassed,
    /// For a while the hive could receive nothing, for reasons of its own. Missing heartbeats meant nothing.
    ObservationGap,
}

/// Something to do for a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Fetch the model, lease a port, bind it and start a process. Answered by `Started` or `NotStarted`.
    Start,
    /// Ask the process to take no further jobs, and to exit when it has none.
    Drain,
    /// Send SIGTERM to the process.
    Terminate,
    /// Send SIGKILL to the process and all its descendants.
    Kill,
    /// Return jobs to the queue.
    ReturnJobs(Returns),
    /// Release the lease of the port.
    ReleasePort {
        /// Port number.
        port: u16,
        /// Reason, for people.
        why: String,
    },
    /// Publish an event.
    Publish(WorkerEvent),
    /// Drop the worker: it is gone.
    Forget,
}

/// A worker as an earlier run of the hive recorded it.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Name of the worker.
    pub name: WorkerName,
    /// Model that the worker serves.
    pub model: ModelName,
    /// Declaration of the model.
    pub spec: ModelSpec,
    /// Last record.
    pub record: WorkerRecord,
    /// Reason to stop; `None` while the worker is to run.
    pub stop_reason: Option<String>,
}
