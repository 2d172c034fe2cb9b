//! Reason why a hive cannot run a worker.

use std::{fmt, time::Duration};

use rbee_schema::{ByteSize, Device, Failure, FailureCode, Protocol, WorkerName};

use crate::decide::{backoff::Backoff, plural::plural};

/// Reason why a hive cannot run a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum Rejection<'a> {
    /// The hive is draining.
    Draining,
    /// The hive has no registry key: it may be about to stop.
    NoKey,
    /// The hive has sent no heartbeat for this long.
    Unresponsive(Duration),
    /// The hive speaks another version of the protocol.
    Protocol(Protocol),
    /// The hive has no workers for this kind of model.
    Kind,
    /// The hive has workers for other devices only: the wanted device, and those that it has.
    Device(Device, &'a [Device]),
    /// The hive lacks a label: its name and value.
    Label(&'a str, &'a str),
    /// The hive runs its maximum number of workers.
    Full(u32),
    /// The hive has less memory than a worker needs.
    Memory {
        /// Memory that a worker needs, in bytes.
        needed: u64,
        /// Free memory of the hive, in bytes.
        free: u64,
    },
    /// A worker of the model is in a crash loop on the hive.
    CrashLoop {
        /// Name of the worker.
        worker: &'a WorkerName,
        /// Failure of its last exit.
        failure: &'a Failure,
    },
    /// The hive failed to start the model and is not tried again yet.
    Backoff(&'a Backoff),
}

impl Rejection<'_> {
    /// True if the hive takes no workers for now, whatever they are.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Draining | Self::NoKey | Self::Unresponsive(_))
    }

    /// True if one worker less on the hive would help.
    pub(super) fn needs_room(&self) -> bool {
        match self {
            Self::Full(_) | Self::Memory { .. } => true,
            Self::Backoff(backoff) => backoff.needs_room(),
            Self::Draining
            | Self::NoKey
            | Self::Unresponsive(_)
            | Self::Protocol(_)
            | Self::Kind
            | Self::Device(..)
            | Self::Label(..)
            | Self::CrashLoop { .. } => false,
        }
    }

    /// True if the reason stays until somebody fixes it.
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            Self::Draining | Self::NoKey | Self::Unresponsive(_) | Self::Full(_) | Self::Memory { .. } => false,
            Self::Protocol(_) | Self::Kind | Self::Device(..) | Self::Label(..) | Self::CrashLoop { .. } => true,
            Self::Backoff(backoff) => backoff.until.is_none(),
        }
    }

    /// Failure code if every hive is rejected like this.
    pub(super) fn code(&self) -> FailureCode {
        match self {
            Self::Draining => FailureCode::HiveDraining,
            Self::Full(_) => FailureCode::HiveFull,
            Self::Memory { .. } => FailureCode::MemoryShort,
            Self::Device(..) => FailureCode::DeviceMissing,
            Self::CrashLoop { .. } => FailureCode::CrashLoop,
            Self::Backoff(backoff) => backoff.failure.code,
            Self::NoKey | Self::Unresponsive(_) | Self::Protocol(_) | Self::Kind | Self::Label(..) => {
                FailureCode::NoCapacity
            }
        }
    }
}

/// Reads after the hive's name.
impl fmt::Display for Rejection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draining => f.write_str("is draining"),
            Self::NoKey => f.write_str("has no key in the registry: it is stopping, or will write the key again"),
            Self::Unresponsive(silence) => write!(f, "has sent no heartbeat for {silence:.1?}"),
            Self::Protocol(theirs) => {
                write!(f, "speaks protocol {theirs}, this queen {}: run one version of rbee", Protocol::OURS)
            }
            Self::Kind => f.write_str("has no workers for models of this kind"),
            Self::Device(wanted, has) => {
                let has: Vec<&str> = has.iter().map(|device| device.as_str()).collect();
                write!(f, "has workers for {}, not for {}", has.join(", "), wanted.as_str())
            }
            Self::Label(name, value) => write!(f, "lacks the label {name}={value}"),
            Self::Full(max) => write!(f, "runs {}, its maximum", plural(u64::from(*max), "worker")),
            Self::Memory { needed, free } => {
                let (needed, free) = (ByteSize(needed >> 20 << 20), ByteSize(free >> 20 << 20));
                write!(f, "has {free} of memory free, a worker needs {needed}")
            }
            Self::CrashLoop { worker, failure } => {
                write!(f, "has worker {worker} of this model in a crash loop: {failure}")
            }
            Self::Backoff(backoff) => write!(f, "could not start it: {}", backoff.failure),
        }
    }
}
