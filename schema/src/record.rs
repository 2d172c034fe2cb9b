//! Documents in key-value buckets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ByteSize, Device, Failure, HiveName, HostName, Labels, Limits, ModelKind, ModelName, ModelReference, ModelSpec,
    Protocol, QueenName, WorkerName,
};

/// Phase of a worker. `hive/src/decide/worker` holds the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerPhase {
    /// The worker is requested. Its process does not exist yet.
    Requested,
    /// The hive is starting the process.
    Spawning,
    /// The process is loading the model.
    Loading,
    /// The worker takes jobs. Busy and idle are not phases: they follow from the jobs that it runs.
    Ready,
    /// The worker was ready and now sends no heartbeats or is frozen. It may recover.
    Suspect,
    /// The worker takes no further jobs and finishes those that it runs.
    Draining,
    /// The process was asked to end, or killed.
    Stopping,
    /// The process ended. The hive restarts it after a backoff.
    Backoff,
    /// The process ended too often. The hive retries it rarely.
    CrashLoop,
    /// The process ended and is not restarted.
    Failed,
}

impl WorkerPhase {
    /// Phase as it is written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Spawning => "spawning",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Suspect => "suspect",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Backoff => "backoff",
            Self::CrashLoop => "crash-loop",
            Self::Failed => "failed",
        }
    }
}

/// Record of a worker, written by its hive: bucket `workers`, key `<hive>.<worker>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerRecord {
    /// Model that the worker serves.
    pub model: ModelName,
    /// Phase of the worker.
    pub phase: WorkerPhase,
    /// Epoch: number of this run of the worker, from 1.
    pub epoch: u64,
    /// Process id, while a process exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// TCP port, while the worker has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Number of jobs that the worker runs at once.
    pub slots: u32,
    /// Number of consecutive exits without a stable run in between.
    #[serde(default)]
    pub exits: u32,
    /// Limits that apply to the worker, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<EffectiveLimits>,
    /// Reason of the failure, if the worker failed or is in a crash loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Declaration that the worker was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<ModelSpec>,
}

/// Limits that apply to a worker, and the mechanism that enforces them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EffectiveLimits {
    /// The limits.
    pub limits: Limits,
    /// Mechanism that enforces the limits on memory and CPU time.
    pub method: LimitMethod,
}

/// Mechanism that enforces limits on memory and CPU time. Open files are always limited by RLIMIT_NOFILE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LimitMethod {
    /// The memory and cpu controllers of cgroup v2.
    CgroupV2,
    /// The memory and cpu controllers of cgroup v1.
    CgroupV1,
    /// RLIMIT_DATA, for memory alone. The hive cannot create cgroups here, and CPU time is not limited.
    RlimitData,
}

impl LimitMethod {
    /// Name of this mechanism on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CgroupV2 => "cgroup-v2",
            Self::CgroupV1 => "cgroup-v1",
            Self::RlimitData => "rlimit-data",
        }
    }
}

/// Record of a hive: bucket `hives`, key `<hive>`. The key expires when the hive is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HiveRecord {
    /// Epoch: number of this run of the hive.
    pub epoch: u64,
    /// Version of the hive's program.
    pub version: String,
    /// Name of the hive's machine.
    pub host: HostName,
    /// First port that the hive may lease.
    pub first_port: u16,
    /// Last port that the hive may lease.
    pub last_port: u16,
    /// Process id of the hive.
    #[serde(default)]
    pub pid: u32,
    /// Random id of the hive's state folder. Two hives with the same name and different ids are different hives.
    #[serde(default)]
    pub state_id: String,
    /// True while the hive drains and takes no further workers.
    #[serde(default)]
    pub draining: bool,
    /// Reason why the hive is degraded and other hives are preferred. Absent if it is not degraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
    /// Memory of the machine.
    #[serde(default)]
    pub memory: ByteSize,
    /// Number of CPU cores of the machine.
    #[serde(default)]
    pub cores: u32,
    /// Mechanism that enforces the limits of the hive's workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_method: Option<LimitMethod>,
    /// URL of the hive's metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
    /// Protocol versions that the hive supports.
    #[serde(default)]
    pub protocol: Protocol,
    /// Labels of the hive, matched against the labels of a model.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Devices that the hive's workers can compute on, the default device first. Empty if unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Kinds of models that the hive's workers support. Empty if unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<ModelKind>,
    /// Maximum number of workers of the hive. Absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_workers: Option<u32>,
    /// Clock skew in milliseconds, measured when the hive started: positive if the hive's clock is ahead of the server's.
    #[serde(default)]
    pub clock_skew_ms: i64,
}

/// Record of the leading queen: bucket `queen`, key `leader`. The key is the lease: it expires unless the queen renews it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaderRecord {
    /// Name of the leading queen.
    pub queen: QueenName,
    /// Version of the queen's program.
    pub version: String,
    /// Protocol versions that the queen supports.
    #[serde(default)]
    pub protocol: Protocol,
    /// Term: the revision with which the queen took the lease. It fences the commands of earlier leaders. Absent in the
    /// write that takes the lease, whose revision becomes the term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// Time without a heartbeat after which the queen suspects a hive, in milliseconds. Hives must send heartbeats more often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect_ms: Option<u64>,
}

/// Record of a model file in a hive's store: bucket `files`, key `<hive>.<digest of the reference>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileRecord {
    /// Model file.
    pub reference: ModelReference,
    /// Path of the file on the hive's machine.
    pub path: String,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

/// Lease of a port: bucket `ports`, key `<host>.<port>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortLease {
    /// Hive that leased the port.
    pub hive: HiveName,
    /// Epoch (run number) of the hive when it leased the port.
    pub hive_epoch: u64,
    /// Worker that listens on the port.
    pub worker: WorkerName,
}
