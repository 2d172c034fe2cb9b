//! What is kept in key-value buckets and in the dead-letter stream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ByteSize, Device, Failure, HiveName, HostName, JobId, Labels, Limits, ModelKind, ModelName, ModelReference,
    ModelSpec, Protocol, QueenName, Tenant, WorkerName,
};

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
    /// It took jobs, and is silent or frozen. It may come back.
    Suspect,
    /// It takes no further jobs and finishes what runs.
    Draining,
    /// Its process was told to end.
    Stopping,
    /// It ended and will be started again.
    Backoff,
    /// It ended too often and is tried again only rarely.
    CrashLoop,
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
            Self::Suspect => "suspect",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Backoff => "backoff",
            Self::CrashLoop => "crash-loop",
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
    /// Exits in a row without a stable run between them.
    #[serde(default)]
    pub exits: u32,
    /// What it may use, and who enforces that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<EffectiveLimits>,
    /// Why it ended, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The declaration that it was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<ModelSpec>,
}

/// What a worker may use, and who sees to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EffectiveLimits {
    /// What it may use.
    pub limits: Limits,
    /// Who limits its memory and processor time.
    pub method: LimitMethod,
}

/// Who limits memory and processor time. Open files are always limited by RLIMIT_NOFILE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LimitMethod {
    /// The memory and cpu controllers of cgroup v2.
    CgroupV2,
    /// The memory and cpu controllers of cgroup v1.
    CgroupV1,
    /// RLIMIT_DATA, for memory alone: no cgroup may be made here, and processor time is not limited.
    RlimitData,
}

impl LimitMethod {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CgroupV2 => "cgroup-v2",
            Self::CgroupV1 => "cgroup-v1",
            Self::RlimitData => "rlimit-data",
        }
    }
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
    /// Its process.
    #[serde(default)]
    pub pid: u32,
    /// Its state folder, as a random name: two hives of one name with different folders are two hives.
    #[serde(default)]
    pub state_id: String,
    /// Whether it takes further workers.
    #[serde(default)]
    pub draining: bool,
    /// Why load is better placed elsewhere, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
    /// The machine's memory.
    #[serde(default)]
    pub memory: ByteSize,
    /// The machine's cores.
    #[serde(default)]
    pub cores: u32,
    /// Who limits its workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_method: Option<LimitMethod>,
    /// Where its metrics are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
    /// Which versions of this vocabulary it understands.
    #[serde(default)]
    pub protocol: Protocol,
    /// What it is called by, for declarations that ask for it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// What its workers can run on; the first is what they run on by themselves. None where it does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// What its workers can do. None where it does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<ModelKind>,
    /// How many workers it runs at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_workers: Option<u32>,
    /// By how many milliseconds its clock is ahead of the server's, as it was when the hive began.
    #[serde(default)]
    pub clock_skew_ms: i64,
}

/// Which queen leads: bucket `queen`, key `leader`; it lapses when she does not renew it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaderRecord {
    /// Her name.
    pub queen: QueenName,
    /// The version of her program.
    pub version: String,
    /// Which versions of this vocabulary she understands.
    #[serde(default)]
    pub protocol: Protocol,
    /// The revision with which she took the lease: what fences the commands of queens before her. Left out in that very
    /// write, whose revision it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// For how many milliseconds a hive may be silent before she calls it suspect: hives must beat more often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect_ms: Option<u64>,
}

/// A model file in a hive's store: bucket `files`, key `<hive>.<digest of the reference>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileRecord {
    /// What it is.
    pub reference: ModelReference,
    /// Where it is on the hive's machine.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
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
