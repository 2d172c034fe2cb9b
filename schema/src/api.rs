//! Requests and replies of the NATS service `rbee` on `rbee.api.<operation>`.
//!
//! A request that fails is answered with `{"error": ...}`, which holds a [`Failure`](crate::Failure), and with the error headers
//! of NATS services.

mod story;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::story::{JobStep, JobStory, JobStoryRequest, JobTimings, JobWait, Retry, RetryReply};
use crate::{
    BatchId, BatchRecord, DeadJob, Failure, FreeResources, HiveName, HiveRecord, JobClass, JobId, ModelName,
    ModelReference, ModelSpec, PromptCacheStats, QueenName, StopMode, Tenant, TenantSpec, WorkerName, WorkerRecord,
};

/// Reply of `rbee.api.status`: a summary of the fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Queen that answers.
    pub queen: QueenName,
    /// Version of the queen's program.
    pub version: String,
    /// True if this queen is the leader.
    #[serde(default)]
    pub leads: bool,
    /// Number of hives.
    pub hives: u32,
    /// Number of declared models.
    pub models: u32,
    /// Number of workers that are ready.
    pub workers_ready: u32,
    /// Number of workers with a process that are not ready.
    pub workers_starting: u32,
    /// Number of running jobs.
    pub jobs_running: u32,
    /// Number of waiting jobs.
    pub jobs_queued: u64,
    /// Sentence about a stream that stores nothing of what the queen publishes, although the bus is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_problem: Option<String>,
}

/// Request of `rbee.api.models`, `rbee.api.hives`, `rbee.api.workers` and `rbee.api.tenants`: one page. Without a body: the first page.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageRequest {
    /// Value of `next` in the previous page. Absent for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Reply of `rbee.api.models`: one page of models, sorted by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Models {
    /// Declared models.
    pub models: Vec<Model>,
    /// Invalid declarations, which have no effect. Only on the first page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedModel>,
    /// Start of the next page: pass it as `after` of the next request. Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Invalid declaration of a model. It has no effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedModel {
    /// Name of the model.
    pub name: ModelName,
    /// Reason of the refusal.
    pub failure: Failure,
}

/// Request of `rbee.api.model` and `rbee.api.explain`: one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelRequest {
    /// Name of the model.
    pub model: ModelName,
}

/// Reply of `rbee.api.explain`: the placement of another worker of a model, and the reason for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// Name of the model.
    pub model: ModelName,
    /// Hive that the worker would be placed on. Absent if no hive can run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hive: Option<HiveName>,
    /// Reason for this hive, or for none, in plain text.
    pub why: String,
    /// Every hive with its assessment, best candidate first.
    pub hives: Vec<PlacementCandidate>,
}

/// Assessment of a hive for another worker of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlacementCandidate {
    /// Name of the hive.
    pub hive: HiveName,
    /// True if the hive can run the worker.
    pub fits: bool,
    /// Ranking of the hive, or the reason why it cannot run the worker, in plain text.
    pub why: String,
}

/// Declared model with the state of its workers and jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Model {
    /// Name of the model.
    pub name: ModelName,
    /// Declaration of the model.
    pub spec: ModelSpec,
    /// Number of workers that are ready.
    pub ready: u32,
    /// Number of workers that are starting.
    pub starting: u32,
    /// Number of running jobs.
    pub jobs_running: u32,
    /// Number of waiting jobs.
    pub jobs_queued: u64,
    /// Number of jobs that the ready workers run at once.
    #[serde(default)]
    pub slots: u32,
    /// Mean time that recent answers took in a worker, in milliseconds. Absent if none was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_ms: Option<u64>,
    /// Failure for which workers of the model do not start, or not on one of the hives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// Reply of `rbee.api.hives`: one page of hives, sorted by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hives {
    /// Hives of the fleet.
    pub hives: Vec<Hive>,
    /// Start of the next page: pass it as `after` of the next request. Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Hive with its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hive {
    /// Name of the hive.
    pub name: HiveName,
    /// Record that the hive publishes about itself.
    pub record: HiveRecord,
    /// Number of workers that the hive runs.
    pub workers: u32,
    /// Presence: `online`, `suspect` (no heartbeat for a few seconds) or `lost`.
    #[serde(default)]
    pub presence: String,
    /// Resources that are free for further workers, if the hive reports them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<FreeResources>,
}

/// Reply of `rbee.api.workers`: one page of workers, sorted by hive and name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Workers {
    /// Workers of the fleet.
    pub workers: Vec<Worker>,
    /// Start of the next page: pass it as `after` of the next request. Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Worker with its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Worker {
    /// Hive of the worker.
    pub hive: HiveName,
    /// Name of the worker.
    pub name: WorkerName,
    /// Record that the hive publishes about the worker.
    pub record: WorkerRecord,
    /// Jobs that the worker runs.
    pub jobs: Vec<JobId>,
    /// Number of tokens generated since the worker started.
    pub tokens: u64,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
    /// Statistics of the prompt cache, if the worker's engine has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PromptCacheStats>,
    /// Start of the worker's current phase, by the server's clock (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// True if the state is current. False while the hive of the worker is lost.
    #[serde(default)]
    pub known: bool,
}

/// Reply of `rbee.api.tenants`: one page of tenants, sorted by name. Listed are tenants with a record, with jobs, or with tokens
/// used in the last minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tenants {
    /// Tenants.
    pub tenants: Vec<TenantUsage>,
    /// Invalid records, which have no effect. Only on the first page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedTenant>,
    /// Start of the next page: pass it as `after` of the next request. Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Tenant with its limits and what it uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TenantUsage {
    /// Name of the tenant.
    pub name: Tenant,
    /// Weight and limits that apply to the tenant.
    pub spec: TenantSpec,
    /// True if the tenant has a record of its own. Otherwise that of the tenant `default` applies.
    pub has_record: bool,
    /// Number of running jobs.
    pub jobs_running: u64,
    /// Number of waiting jobs.
    pub jobs_queued: u64,
    /// Tokens that jobs of the tenant have used within the last minute.
    pub tokens: u64,
    /// Time at which further jobs may start, by the queen's clock (RFC 3339). Absent unless the tenant has used its tokens per
    /// minute. Jobs that still run may extend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_until: Option<String>,
}

/// Invalid record of a tenant. It has no effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedTenant {
    /// Name of the tenant.
    pub name: Tenant,
    /// Reason of the refusal.
    pub failure: Failure,
}

/// Request of `rbee.api.worker` and `rbee.api.reset`: one worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkerRequest {
    /// Name of the worker.
    pub worker: WorkerName,
    /// Hive of the worker. Optional if only one hive has a worker of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hive: Option<HiveName>,
}

/// Request of `rbee.api.spawn`: start another worker of a declared model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spawn {
    /// Name of the model.
    pub model: ModelName,
    /// Hive to start the worker on. Default: the best candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hive: Option<HiveName>,
}

/// Request of `rbee.api.stop`: stop a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Name of the worker.
    pub worker: WorkerName,
    /// Hive of the worker. Optional if only one hive has a worker of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hive: Option<HiveName>,
    /// Stop mode; default `drain`.
    #[serde(default)]
    pub mode: StopMode,
}

/// Request of `rbee.api.drain`: drain a hive, or let it take workers again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Name of the hive.
    pub hive: HiveName,
    /// True to end the drain: the hive takes workers again; default false.
    #[serde(default)]
    pub undo: bool,
    /// True to hand running jobs over to other workers; default false: they finish where they run.
    #[serde(default)]
    pub hand_over: bool,
}

/// Request of `rbee.api.pull` and `rbee.api.rm`: fetch or delete a model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRequest {
    /// Model file, such as `hf:owner/repo/file.gguf`.
    pub reference: ModelReference,
    /// Hive that fetches or deletes the file. Default: every hive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hive: Option<HiveName>,
}

/// Reply of the operations that command hives. The commands are stored; events report their outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandReply {
    /// Hives that were commanded.
    pub hives: Vec<HiveName>,
    /// Worker that the command is about, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerName>,
    /// Subject of the events that report the outcome.
    pub events: String,
    /// Reason for the choice of the hive, in plain text. Empty if the request named the hive.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// Request of `rbee.api.cancel`: cancel a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// Tenant that owns the job; default `default`.
    #[serde(default)]
    pub tenant: Tenant,
    /// Id of the job.
    pub job: JobId,
}

/// Reply of `rbee.api.cancel`. A queued or running job is being cancelled; its output will end with an `error` chunk. A job that
/// is not known is refused with `unknown-job`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CancelReply {
    /// Id of the job.
    pub job: JobId,
    /// State of the job when the request arrived.
    pub state: JobState,
}

/// Request of `rbee.api.jobs`: one page of a list of jobs. Without a body: the first page of the open jobs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobsRequest {
    /// List to read; default `open`.
    #[serde(default)]
    pub list: JobList,
    /// Only jobs of this model. Not for ended jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    /// Only jobs of this tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// Value of `next` in the previous page. Absent for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// List of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JobList {
    /// Jobs that wait or run.
    #[default]
    Open,
    /// Jobs that have ended within the last hour.
    Ended,
    /// Dead letters: jobs that were given up.
    Dead,
}

/// Reply of `rbee.api.jobs`: one page of jobs, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Jobs {
    /// Jobs of the list.
    pub jobs: Vec<Job>,
    /// Start of the next page: pass it as `after` of the next request. Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Job in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// Tenant that owns the job.
    pub tenant: Tenant,
    /// Id of the job.
    pub job: JobId,
    /// Model of the job. Absent for ended jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    /// Class of the job. Absent for ended and dead jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<JobClass>,
    /// State of the job. A job that waits for its next worker is `queued`.
    pub state: JobState,
    /// Time at which the job was queued, ended or was given up, by the server's clock (RFC 3339).
    pub since: String,
    /// Worker that runs the job, as `HIVE/WORKER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Place in the queue, while the job waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<QueuePosition>,
    /// Reason of the failure, if the job failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Dead letter of a job that was given up, without its body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead: Option<Box<DeadJob>>,
}

/// Place of a waiting job in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueuePosition {
    /// Number of jobs of the same model, class and tenant that wait before it.
    pub ahead: u64,
    /// Expected time until a worker takes the job, in milliseconds: from the mean time of the model's recent answers, and the
    /// jobs of other tenants and classes that go before. Absent while no worker is ready or no answer was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_wait_ms: Option<u64>,
}

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// The job waits for its first worker.
    Queued,
    /// A worker has begun the answer, and continues it or another one will.
    Running,
    /// The answer is complete, or the job has failed.
    Finished,
}

impl JobState {
    /// State as it is written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finished => "finished",
        }
    }
}

/// Request of `rbee.api.batch-run`: run a file of requests. If a batch with this id exists, the reply describes it, and nothing is
/// started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRun {
    /// Id of the batch. Absent for a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchId>,
    /// Tenant that owns the batch and its jobs.
    #[serde(default)]
    pub tenant: Tenant,
    /// Model of the requests that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    /// Object in the bucket `batches` with the requests. Its name begins with the tenant and a slash.
    pub input: String,
}

/// Request of `rbee.api.batch` and `rbee.api.batch-cancel`: one batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// Id of the batch.
    pub batch: BatchId,
}

/// Batch with its state. Reply of `rbee.api.batch`, `rbee.api.batch-run` and `rbee.api.batch-cancel`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Batch {
    /// Id of the batch.
    pub batch: BatchId,
    /// Record of the batch.
    pub record: BatchRecord,
}

/// Reply of `rbee.api.batches`: one page of batches, sorted by id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Batches {
    /// Batches.
    pub batches: Vec<Batch>,
    /// Start of the next page: pass it as `after` of the next request. Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
