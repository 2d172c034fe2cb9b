//! Failures on the wire: a stable code, a message in words, and whether a retry can help.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why something could not be done. Codes are stable; messages are for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FailureCode {
    /// The body is not JSON.
    InvalidJson,
    /// The body is JSON, but not a valid request.
    InvalidRequest,
    /// The body is larger than a job may be.
    BodyTooLarge,
    /// No model of that name is declared.
    UnknownModel,
    /// No job of that id is known.
    UnknownJob,
    /// No worker of that name is known.
    UnknownWorker,
    /// Prompt and answer together do not fit the model's context.
    ContextExceeded,
    /// Somebody cancelled the job.
    Cancelled,
    /// The job was tried too often; each try ended its worker.
    TriedTooOften,
    /// Too many jobs of this kind are waiting.
    QueueFull,
    /// The model's file is not there or cannot be read.
    ModelMissing,
    /// The model's file is damaged or is not what its name says.
    ModelInvalid,
    /// The model is of a kind that the worker cannot run.
    ModelUnsupported,
    /// Every port of the hive's range is leased or held by others.
    PortsExhausted,
    /// The machine has too little memory for another worker of this size.
    MemoryShort,
    /// The disk has too little room for the model file.
    DiskFull,
    /// The machine lacks the device that the model asks for.
    DeviceMissing,
    /// The hive runs as many workers as it may.
    HiveFull,
    /// The hive drains and takes no further workers.
    HiveDraining,
    /// The model file could not be fetched: the network or the hub failed.
    FetchFailed,
    /// The hub refuses access to the model file.
    AccessDenied,
    /// The worker could not be started.
    SpawnFailed,
    /// The worker did not become ready in time.
    ReadyTimeout,
    /// The worker needed more memory than its limit.
    OutOfMemory,
    /// The worker ended too often; it is tried again only rarely.
    CrashLoop,
    /// There is no hive that could run the model.
    NoCapacity,
    /// A command was older than what the hive knows.
    StaleCommand,
    /// The answer did not come in time.
    TimedOut,
    /// Something that must not happen. A defect: please report it.
    Internal,
}

impl FailureCode {
    /// The code as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid-json",
            Self::InvalidRequest => "invalid-request",
            Self::BodyTooLarge => "body-too-large",
            Self::UnknownModel => "unknown-model",
            Self::UnknownJob => "unknown-job",
            Self::UnknownWorker => "unknown-worker",
            Self::ContextExceeded => "context-exceeded",
            Self::Cancelled => "cancelled",
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
            Self::Internal => "internal",
        }
    }

    /// Whether the same request may succeed later without a change.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::QueueFull
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
            | Self::TimedOut => true,
            Self::InvalidJson
            | Self::InvalidRequest
            | Self::BodyTooLarge
            | Self::UnknownModel
            | Self::UnknownJob
            | Self::UnknownWorker
            | Self::ContextExceeded
            | Self::Cancelled
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

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A failure as it is told to whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Failure {
    /// What kind of failure it is.
    pub code: FailureCode,
    /// What was tried, what was found, what to do.
    pub message: String,
    /// Whether the same request may succeed later without a change.
    #[serde(default)]
    pub retryable: bool,
}

impl Failure {
    /// A failure; whether a retry can help follows from the code.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: code.is_retryable() }
    }
}
