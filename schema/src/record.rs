//! What is kept in key-value buckets and in the dead-letter stream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Failure, HiveName, HostName, JobId, ModelName, Tenant, WorkerName};

/// Where a worker is in its life. `hive/decide/worker` holds the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerPhase {
    /// Wanted; nothing is done yet.
    Requested,
    /// Its process is being started.
    Spawning,
    /// Its process reads the model.
    Loading,
    /// It takes jobs. Busy or idle follows from its slots.
    Ready,
    /// It takes no further jobs and finishes what runs.
    Draining,
    /// Its process was told to end.
    Stopping,
    /// It ended and will be started again.
    Backoff,
    /// It ended and will not be started again.
    Failed,
}

impl WorkerPhase {
    /// The phase in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Spawning => "spawning",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Backoff => "backoff",
            Self::Failed => "failed",
        }
    }
}

/// One worker, as its hive knows it: bucket `workers`, key `<hive>.<worker>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerRecord {
    /// What it serves.
    pub model: ModelName,
    /// Where it is in its life.
    pub phase: WorkerPhase,
    /// Which run this is, from 1.
    pub epoch: u64,
    /// Its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How many jobs it can run at a time.
    pub slots: u32,
    /// Why it ended, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// One hive: bucket `hives`, key `<hive>`; it lapses when the hive is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HiveRecord {
    /// Which run of the hive this is.
    pub epoch: u64,
    /// The version of its program.
    pub version: String,
    /// Its machine.
    pub host: HostName,
    /// The first port that it may lease.
    pub first_port: u16,
    /// The last port that it may lease.
    pub last_port: u16,
}

/// Who holds a port: bucket `ports`, key `<host>.<port>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortLease {
    /// The hive that leased it.
    pub hive: HiveName,
    /// Which run of the hive.
    pub hive_epoch: u64,
    /// The worker that listens on it.
    pub worker: WorkerName,
}

/// A job that was given up: stream `dead`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadJob {
    /// Whose it was.
    pub tenant: Tenant,
    /// Which it was.
    pub job: JobId,
    /// How often it was tried.
    pub attempts: u64,
    /// Why it was given up.
    pub failure: Failure,
    /// Its body, where it is text.
    pub body: String,
}
