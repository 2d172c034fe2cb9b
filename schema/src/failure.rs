//! Failures on the wire: a stable code, a message for people, and a retry hint.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Code of a failure. Codes are stable; messages are for people and may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FailureCode {
    /// The body is not JSON.
    InvalidJson,
    /// The body is JSON but not a valid request.
    InvalidRequest,
    /// The body is larger than the limit `body_size` of the bus.
    BodyTooLarge,
    /// The body of the job is stored apart from it, and is not there (any more).
    BodyMissing,
    /// The stored body of the job is not the one that was submitted: its size or digest differs.
    BodyCorrupt,
    /// No model with this name is declared.
    UnknownModel,
    /// No job with this id is known.
    UnknownJob,
    /// No worker with this name is known.
    UnknownWorker,
    /// No batch with this id is known.
    UnknownBatch,
    /// Prompt and answer together exceed the context length of the model.
    ContextExceeded,
    /// The job was cancelled.
    Cancelled,
    /// The job has missed a deadline: no worker had started it, or it had no answer, when the time was over.
    DeadlineExceeded,
    /// A job with this id was submitted before.
    DuplicateJob,
    /// Output of the job is no longer stored: it was deleted while the job ran, or before it was read.
    OutputGone,
    /// The stream of output is full.
    OutputFull,
    /// A piece of the answer is larger than a message of the bus may be.
    AnswerTooLarge,
    /// The job was attempted too often: each attempt ended its worker.
    TriedTooOften,
    /// Too many jobs of this model, class and tenant are waiting.
    QueueFull,
    /// The model file does not exist or cannot be read.
    ModelMissing,
    /// The model file is damaged, or its content does not match its name.
    ModelInvalid,
    /// The worker does not support this kind of model.
    ModelUnsupported,
    /// Every port of the hive's range is leased, or bound by another process.
    PortsExhausted,
    /// The machine has too little free memory for another worker of this size.
    MemoryShort,
    /// The disk has too little free space for the model file.
    DiskFull,
    /// The machine lacks the device that the model requires.
    DeviceMissing,
    /// The hive runs its maximum number of workers.
    HiveFull,
    /// The hive is draining and takes no further workers.
    HiveDraining,
    /// The model file could not be fetched: the network or the Hub failed.
    FetchFailed,
    /// The Hub denies access to the model file.
    AccessDenied,
    /// The worker could not be started.
    SpawnFailed,
    /// The worker did not become ready in time.
    ReadyTimeout,
    /// The worker exceeded its memory limit.
    OutOfMemory,
    /// The worker is in a crash loop: it exited too often and is retried rarely.
    CrashLoop,
    /// No hive can run the model.
    NoCapacity,
    /// The command is outdated: it names an earlier term or epoch than the hive knows.
    StaleCommand,
    /// No answer arrived in time.
    TimedOut,
    /// The process that relayed the answer was stopped.
    ShuttingDown,
    /// An internal error. It is a bug in rbee; please report it.
    Internal,
}

impl FailureCode {
    /// Code as it is written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid-json",
            Self::InvalidRequest => "invalid-request",
            Self::BodyTooLarge => "body-too-large",
            Self::BodyMissing => "body-missing",
            Self::BodyCorrupt => "body-corrupt",
            Self::UnknownModel => "unknown-model",
            Self::UnknownJob => "unknown-job",
            Self::UnknownWorker => "unknown-worker",
            Self::UnknownBatch => "unknown-batch",
            Self::ContextExceeded => "context-exceeded",
            Self::Cancelled => "cancelled",
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::DuplicateJob => "duplicate-job",
            Self::OutputGone => "output-gone",
            Self::OutputFull => "output-full",
            Self::AnswerTooLarge => "answer-too-large",
            Self::TriedTooOften => "tried-too-often",
            Self::QueueFull => "queue-full",
            Self::ModelMissing => "model-missing",
            Self::ModelInvalid => "model-invalid",
            Self::ModelUnsupported => "model-unsupported",
            Self::PortsExhausted => "ports-exhausted",
            Self::MemoryShort => "memory-short",
            Self::DiskFull => "disk-full",
            Self::DeviceMissing => "device-missing",
            Self::HiveFull => "hive-full",
            Self::HiveDraining => "hive-draining",
            Self::FetchFailed => "fetch-failed",
            Self::AccessDenied => "access-denied",
            Self::SpawnFailed => "spawn-failed",
            Self::ReadyTimeout => "ready-timeout",
            Self::OutOfMemory => "out-of-memory",
            Self::CrashLoop => "crash-loop",
            Self::NoCapacity => "no-capacity",
            Self::StaleCommand => "stale-command",
            Self::TimedOut => "timed-out",
            Self::ShuttingDown => "shutting-down",
            Self::Internal => "internal",
        }
    }

    /// True if the same request may succeed later without a change.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::QueueFull
            | Self::DeadlineExceeded
            | Self::OutputGone
            | Self::OutputFull
            | Self::PortsExhausted
            | Self::MemoryShort
            | Self::DiskFull
            | Self::HiveFull
            | Self::HiveDraining
            | Self::FetchFailed
            | Self::SpawnFailed
            | Self::ReadyTimeout
            | Self::CrashLoop
            | Self::NoCapacity
            | Self::StaleCommand
            | Self::TimedOut
            | Self::ShuttingDown => true,
            Self::InvalidJson
            | Self::InvalidRequest
            | Self::BodyTooLarge
            | Self::BodyMissing
            | Self::BodyCorrupt
            | Self::UnknownModel
            | Self::UnknownJob
            | Self::UnknownWorker
            | Self::UnknownBatch
            | Self::ContextExceeded
            | Self::Cancelled
            | Self::DuplicateJob
            | Self::AnswerTooLarge
            | Self::TriedTooOften
            | Self::ModelMissing
            | Self::ModelInvalid
            | Self::ModelUnsupported
            | Self::DeviceMissing
            | Self::AccessDenied
            | Self::OutOfMemory
            | Self::Internal => false,
        }
    }
}

impl FailureCode {
    /// HTTP status of a reply with this failure.
    pub fn http_status(self) -> u16 {
        match self {
            Self::InvalidJson
            | Self::InvalidRequest
            | Self::ContextExceeded
            | Self::BodyMissing
            | Self::BodyCorrupt => 400,
            Self::UnknownModel | Self::UnknownJob | Self::UnknownWorker | Self::UnknownBatch => 404,
            Self::DuplicateJob => 409,
            Self::BodyTooLarge => 413,
            Self::QueueFull => 429,
            Self::TimedOut | Self::DeadlineExceeded => 504,
            Self::NoCapacity
            | Self::OutputFull
            | Self::PortsExhausted
            | Self::SpawnFailed
            | Self::ReadyTimeout
            | Self::CrashLoop
            | Self::ModelMissing
            | Self::ModelInvalid
            | Self::ModelUnsupported
            | Self::ShuttingDown => 503,
            // The fault is one of the server.
            Self::Cancelled
            | Self::OutputGone
            | Self::AnswerTooLarge
            | Self::TriedTooOften
            | Self::MemoryShort
            | Self::DiskFull
            | Self::DeviceMissing
            | Self::HiveFull
            | Self::HiveDraining
            | Self::FetchFailed
            | Self::AccessDenied
            | Self::OutOfMemory
            | Self::StaleCommand
            | Self::Internal => 500,
        }
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Failure as it is reported to the requester.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Failure {
    /// Stable code of the failure.
    pub code: FailureCode,
    /// Message for people: what was attempted, what was found, and what to do.
    pub message: String,
    /// True if the same request may succeed later without a change.
    #[serde(default)]
    pub retryable: bool,
}

impl Failure {
    /// Failure with this code and message; `retryable` follows from the code.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: code.is_retryable() }
    }
}
