//! The vocabulary of the bus: every message, name and failure code that crosses it.
//!
//! Serde types only: nothing here knows a socket, a clock or a task. Each document is one readable JSON object;
//! readers tolerate fields they do not know, and every field that a reader can fill in itself is optional.
//! What identifies a message (which hive, which worker, which job) stands in its subject; its time is the broker's.

mod alert;
pub mod api;
mod beat;
mod chunk;
mod command;
mod document;
mod embedding;
mod estimate;
mod event;
mod failure;
mod job;
mod model;
mod name;
mod parse;
mod protocol;
mod record;
mod seal;
mod settings;
mod size;
mod worker_settings;

pub use alert::{AlertEvent, AlertKind};
pub use beat::{CacheUse, HiveBeat, JobInFlight, Room, WorkerBeat};
pub use chunk::{Chunk, FinishReason, Scored, TokenLogprob, Usage};
pub use command::{Haste, HiveCommand, QueenControl, WorkerControl};
pub use document::{Document, documents};
pub use embedding::{EmbeddingInput, EmbeddingsRequest, EncodingFormat};
pub use estimate::MemoryEstimate;
pub use event::{Event, ExitClass, HiveEvent, JobEvent, ModelEvent, PortEvent, QueenEvent, WorkerEvent};
pub use failure::{Failure, FailureCode};
pub use job::{
    CalledFunction, Function, FunctionName, JobRequest, MAX_BODY_BYTES, Message, NamedSchema, ResponseFormat, Role,
    Sampling, Shape, StructuredOutputs, Tool, ToolCall, ToolChoice, ToolKind, ToolWord,
};
pub use model::{
    Device, HubFile, Labels, Limits, ModelKind, ModelReference, ModelSpec, Replicas, Spreading, check_labels,
};
pub use name::{HiveName, HostName, InvalidName, JobClass, JobId, ModelName, QueenName, Tenant, WorkerName};
pub use parse::{parse_cores, parse_hub_reference, parse_label};
pub use protocol::Protocol;
pub use record::{
    DeadJob, FileRecord, HiveRecord, LeaderRecord, LimitedBy, LimitsInForce, PortLease, WorkerPhase, WorkerRecord,
};
pub use seal::AuditEvent;
pub use settings::{
    Declared, SettingValue, Settings, as_long, duration, longer, nearest, no_setting, read_settings, setting_value,
    whole_seconds,
};
pub use size::ByteSize;
pub use worker_settings::WorkerSettings;
