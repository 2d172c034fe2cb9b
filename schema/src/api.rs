//! Requests and replies of the NATS service `rbee` on `rbee.api.<operation>`.
//!
//! A request that fails is answered with a [`Failure`](crate::Failure) in `error`, and with the service error headers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Failure, FreeResources, HiveName, HiveRecord, JobId, ModelName, ModelReference, ModelSpec, PromptCacheStats,
    QueenName, StopMode, Tenant, WorkerName, WorkerRecord,
};

/// Reply of `rbee.api.status`: the fleet in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Who answers.
    pub queen: QueenName,
    /// The version of its program.
    pub version: String,
    /// Whether she is the one who leads.
    #[serde(default)]
    pub leads: bool,
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

/// Request of `rbee.api.models`, `hives` and `workers`: a page of them. Without a body it is the first one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PageRequest {
    /// What the page before said in `next`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Reply of `rbee.api.models`: some of them, by their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Models {
    /// Declared models.
    pub models: Vec<Model>,
    /// Declarations that have no effect, with the first page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedModel>,
    /// Where the next page begins, for `after` of the next request; nothing where this is the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A declaration that has no effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedModel {
    /// Its name.
    pub name: ModelName,
    /// Why it has none.
    pub failure: Failure,
}

/// Request of `rbee.api.model` and `rbee.api.explain`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelRequest {
    /// Which model.
    pub model: ModelName,
}

/// Reply of `rbee.api.explain`: where another worker of a model would go, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// Which model.
    pub model: ModelName,
    /// Where; nowhere if this is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hive: Option<HiveName>,
    /// Why there, or why nowhere.
    pub why: String,
    /// What is thought of each hive, the best first.
    pub hives: Vec<PlacementCandidate>,
}

/// What is thought of a hive for another worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlacementCandidate {
    /// Which hive.
    pub hive: HiveName,
    /// Whether it can take it.
    pub fits: bool,
    /// How well it is fits, or why it is not.
    pub why: String,
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
    /// Hives that are there.
    pub hives: Vec<Hive>,
    /// Where the next page begins, for `after` of the next request; nothing where this is the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
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
    /// `online`, `suspect` (silent for a few seconds) or `lost`.
    #[serde(default)]
    pub presence: String,
    /// What it has left, where it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<FreeResources>,
}

/// Reply of `rbee.api.workers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Workers {
    /// Workers, by hive and name.
    pub workers: Vec<Worker>,
    /// Where the next page begins, for `after` of the next request; nothing where this is the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
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
    /// What it remembers of prompts, where its engine does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PromptCacheStats>,
    /// Since when it is in its phase, by the server's clock (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Whether it is heard: nothing is known of the workers of a hive that is lost.
    #[serde(default)]
    pub known: bool,
}

/// Request of `rbee.api.worker` and `rbee.api.reset`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerRequest {
    /// Which worker.
    pub worker: WorkerName,
    /// Where it runs; may be left out where one hive alone has a worker of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hive: Option<HiveName>,
}

/// Request of `rbee.api.spawn`: start another worker of a declared model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spawn {
    /// Of which model.
    pub model: ModelName,
    /// Where; default: where it is placed best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hive: Option<HiveName>,
}

/// Request of `rbee.api.stop`: end a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stop {
    /// Which worker.
    pub worker: WorkerName,
    /// Where it runs; may be left out where one hive alone has a worker of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hive: Option<HiveName>,
    /// The way in which the worker is stopped; default `drain`.
    #[serde(default)]
    pub mode: StopMode,
}

/// Request of `rbee.api.drain`: let a hive finish its jobs and take no more, or take workers again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Drain {
    /// Which hive.
    pub hive: HiveName,
    /// Whether it takes workers again.
    #[serde(default)]
    pub undo: bool,
}

/// Request of `rbee.api.pull` and `rbee.api.rm`: fetch or delete a model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FileRequest {
    /// Which, such as `hf:owner/repo/file.gguf`.
    pub reference: ModelReference,
    /// On which hive; default: on every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hive: Option<HiveName>,
}

/// Reply of the operations that command hives: the commands are stored; what becomes of them is told by events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandReply {
    /// Which hives were commanded.
    pub hives: Vec<HiveName>,
    /// Which worker it is about, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerName>,
    /// Where to listen for what becomes of it.
    pub events: String,
    /// Why it was commanded thus, in words, where that was chosen.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
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
pub struct CancelReply {
    /// Which job.
    pub job: JobId,
}
