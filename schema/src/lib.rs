//! The vocabulary of the bus: every message, name and failure code that crosses it.
//!
//! The crate holds serde types only: no sockets, clocks or tasks. Each document is one readable JSON object. Readers
//! tolerate unknown fields, and every field that a reader can fill in by itself is optional. The subject of a message
//! identifies its source (hive, worker, job); the time of a message is the time at which the broker stored it.

pub mod api;
mod batch;
mod body;
mod chunk;
mod command;
mod dead_job;
mod deadline;
mod document;
mod embedding;
mod estimate;
mod event;
mod failure;
mod heartbeat;
mod job;
mod job_run;
mod model;
mod name;
mod protocol;
mod record;
mod settings;
mod size;
mod tenant;
mod worker_settings;

pub use batch::{BatchCounts, BatchRecord, BatchState};
pub use body::MAX_BODY_BYTES;
pub use chunk::{Chunk, FinishReason, TokenLogprob, TokenScore, Usage};
pub use command::{HiveCommand, QueenControl, StopMode, WorkerControl};
pub use dead_job::{DeadJob, WorkerExit};
pub use deadline::{ClassLimits, DEADLINE, Deadline, Deadlines, Missed, QUEUE_DEADLINE, TimeLimits};
pub use document::{Document, documents};
pub use embedding::{EmbeddingInput, EmbeddingsRequest, EncodingFormat};
pub use estimate::MemoryEstimate;
pub use event::{
    AlertEvent, AlertKind, AuditEvent, Event, ExitClass, HiveEvent, JobBlame, JobEvent, ModelEvent, PortEvent,
    QueenEvent, TenantEvent, WorkerEvent,
};
pub use failure::{Failure, FailureCode};
pub use heartbeat::{FreeResources, HiveHeartbeat, JobInFlight, KEEP_ALIVES, PromptCacheStats, WorkerHeartbeat};
pub use job::{
    CalledFunction, Function, FunctionName, JobRequest, Message, NamedSchema, OutputFormat, ResponseFormat, Role,
    Sampling, StructuredOutputs, Tool, ToolCall, ToolChoice, ToolKind, ToolMode,
};
pub use job_run::{JobRun, RunEnd, SubmittedJob};
pub use model::{
    Device, HubFile, Labels, Limits, ModelKind, ModelReference, ModelSpec, PlacementStrategy, Replicas, check_labels,
    parse_cores, parse_hub_reference, parse_label,
};
pub use name::{
    BatchId, HiveName, HostName, InvalidName, JobClass, JobFlow, JobId, ModelName, QueenName, Tenant, WorkerName,
};
pub use protocol::Protocol;
pub use record::{
    EffectiveLimits, FileRecord, HiveRecord, LeaderRecord, LimitMethod, PortLease, WorkerPhase, WorkerRecord,
};
pub use settings::{
    SettingInfo, SettingValue, Settings, check_at_least, check_longer, check_whole_seconds, nearest_name,
    parse_duration, parse_setting, parse_settings, unknown_setting,
};
pub use size::ByteSize;
pub use tenant::{TenantSpec, TenantSpecs, TenantThrottle, TenantWeight};
pub use worker_settings::WorkerSettings;
