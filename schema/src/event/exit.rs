//! Classes of process exits.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Class of a worker's exit. It decides whether the hive restarts the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExitClass {
    /// The process ended on request, or on its own with code 0.
    Clean,
    /// A signal that the hive did not send ended the process.
    Signal,
    /// The process ran out of memory: it needed more than its limit.
    Oom,
    /// The hive killed the process because it was not ready in time.
    ReadyTimeout,
    /// The hive killed the process: it had jobs and made no progress.
    Hang,
    /// The hive killed the process: it sent no heartbeats, or failed its health checks.
    Unresponsive,
    /// The worker's data is invalid (exit code 65). The hive does not restart it.
    Data,
    /// The worker's configuration is invalid (exit code 78). The hive does not restart it.
    Config,
    /// The worker lacks a permission that it needs (exit code 77). The hive does not restart it.
    Permission,
    /// The process ended with another exit code.
    Other,
    /// The exit status is unknown: the process ended while its hive was away, or an earlier run of the hive started it.
    Unknown,
}

impl fmt::Display for ExitClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Clean => "clean",
            Self::Signal => "signal",
            Self::Oom => "oom",
            Self::ReadyTimeout => "ready-timeout",
            Self::Hang => "hang",
            Self::Unresponsive => "unresponsive",
            Self::Data => "data",
            Self::Config => "config",
            Self::Permission => "permission",
            Self::Other => "other",
            Self::Unknown => "unknown",
        })
    }
}
