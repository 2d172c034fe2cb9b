//! Requests and replies of the NATS service `rbee` on `rbee.api.<operation>`.
//!
//! A request that fails is answered with a [`Failure`](crate::Failure) in `error`, and with the service error headers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{HiveName, HiveRecord, JobId, ModelName, ModelSpec, QueenName, Tenant, WorkerName, WorkerRecord};

/// Reply of `rbee.api.status`: the fleet in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Who answers.
    pub queen: QueenName,
    /// The version of its program.
    pub version: String,
    /// Hives that are there.
    pub hives: u32,
    /// Declared models.
    pub models: u32,
    /// Workers that take jobs.
    pub workers_ready: u32,
    /// Workers with a process that is not ready.
    pub workers_starting: u32,
    /// Jobs that run.
    pub jobs_running: u32,
    /// Jobs that wait.
    pub jobs_queued: u64,
}

/// Reply of `rbee.api.models`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Models {
    /// All declared models.
    pub models: Vec<Model>,
}

/// One declared model and what serves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Model {
    /// Its name.
    pub name: ModelName,
    /// Its declaration.
    pub spec: ModelSpec,
    /// Workers that take its jobs.
    pub ready: u32,
    /// Workers that will.
    pub starting: u32,
    /// Jobs that run.
    pub jobs_running: u32,
    /// Jobs that wait.
    pub jobs_queued: u64,
}

/// Reply of `rbee.api.hives`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hives {
    /// All hives that are there.
    pub hives: Vec<Hive>,
}

/// One hive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hive {
    /// Its name.
    pub name: HiveName,
    /// What it says about itself.
    pub record: HiveRecord,
    /// Workers that it runs.
    pub workers: u32,
}

/// Reply of `rbee.api.workers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Workers {
    /// All workers of all hives.
    pub workers: Vec<Worker>,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Worker {
    /// Where it runs.
    pub hive: HiveName,
    /// Its name.
    pub name: WorkerName,
    /// What its hive says about it.
    pub record: WorkerRecord,
    /// Jobs that it runs.
    pub jobs: Vec<JobId>,
    /// Tokens made since it started.
    pub tokens: u64,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
}

/// Request of `rbee.api.cancel`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cancel {
    /// Whose job it is.
    #[serde(default)]
    pub tenant: Tenant,
    /// Which job.
    pub job: JobId,
}

/// Reply of `rbee.api.cancel`: the cancellation is under way, and the job's output will end with an `error` chunk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cancelling {
    /// Which job.
    pub job: JobId,
}
