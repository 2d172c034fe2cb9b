//! The vocabulary of the bus: every message, name and failure code that crosses it.
//!
//! Serde types only: nothing here knows a socket, a clock or a task. Each document is one readable JSON object;
//! readers tolerate fields they do not know, and every field that a reader can fill in itself is optional.
//! What identifies a message (which hive, which worker, which job) stands in its subject; its time is the broker's.

pub mod api;
mod beat;
mod chunk;
mod command;
mod document;
mod event;
mod failure;
mod job;
mod model;
mod name;
mod record;
mod size;

pub use beat::{HiveBeat, JobInFlight, WorkerBeat};
pub use chunk::{Chunk, FinishReason, Usage};
pub use command::{Haste, HiveCommand, WorkerControl};
pub use document::{Document, documents};
pub use event::{Event, ExitClass, HiveEvent, JobEvent, ModelEvent, PortEvent, QueenEvent, WorkerEvent};
pub use failure::{Failure, FailureCode};
pub use job::{JobRequest, MAX_BODY_BYTES, Message, Role, Sampling};
pub use model::{Device, HubFile, Limits, ModelKind, ModelReference, ModelSpec, Replicas};
pub use name::{HiveName, HostName, InvalidName, JobClass, JobId, ModelName, QueenName, Tenant, WorkerName};
pub use record::{DeadJob, FileRecord, HiveRecord, LimitedBy, LimitsInForce, PortLease, WorkerPhase, WorkerRecord};
pub use size::ByteSize;
