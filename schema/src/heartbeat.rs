//! Heartbeats of hives and workers, on `rbee.beat.<hive>` and `rbee.beat.<hive>.<worker>`. Each is complete and not stored.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{JobId, ModelName, Tenant};

/// Keep-alives that a worker sends per redelivery timeout while it has a job. Three, so that two may be lost.
pub const KEEP_ALIVES: u32 = 3;

/// Heartbeat of a worker, sent every second, and at once when a job starts or ends.
///
/// A heartbeat is also the worker's claim on its jobs: when the worker ends, its hive returns the jobs that the last
/// heartbeat named to the queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerHeartbeat {
    /// Model that the worker serves.
    pub model: ModelName,
    /// Epoch: number of this run of the worker.
    pub epoch: u64,
    /// Number of jobs that the worker runs at once.
    pub slots: u32,
    /// Jobs that the worker runs.
    #[serde(default)]
    pub jobs: Vec<JobInFlight>,
    /// Tokens generated since the worker started. For an embeddings model: tokens read.
    #[serde(default)]
    pub tokens: u64,
    /// Steps of the engine since the worker started, including those that read prompts. A worker whose counter does not
    /// change is hung, if it has jobs that are not blocked.
    #[serde(default)]
    pub steps: u64,
    /// Number of jobs whose output the server does not store at present. They make no progress until it does.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub blocked: u32,
    /// Resident memory in bytes.
    #[serde(default)]
    pub memory_bytes: u64,
    /// Statistics of the prompt cache, if the worker's engine has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PromptCacheStats>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Statistics of a worker's prompt cache, which keeps the keys and values of earlier prompts and answers for requests that
/// begin alike. The least recently used entries are evicted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PromptCacheStats {
    /// Tokens looked up since the worker started: the prompts of jobs, and the answers that jobs resumed.
    pub lookup_tokens: u64,
    /// Tokens among `lookup_tokens` that were found in the cache.
    pub hit_tokens: u64,
    /// Capacity of the cache in bytes.
    pub limit_bytes: u64,
    /// Bytes used by running jobs.
    pub used_bytes: u64,
    /// Bytes kept for later jobs.
    pub idle_bytes: u64,
    /// Bytes evicted since the worker started.
    pub evicted_bytes: u64,
}

impl PromptCacheStats {
    /// Share of looked-up tokens that were found, from 0 to 1. `None` before the first lookup.
    pub fn hit_rate(&self) -> Option<f64> {
        (self.lookup_tokens > 0).then(|| self.hit_tokens as f64 / self.lookup_tokens as f64)
    }

    /// Sum of the statistics of several workers.
    pub fn sum(caches: impl IntoIterator<Item = Self>) -> Self {
        caches.into_iter().fold(Self::default(), |sum, next| Self {
            lookup_tokens: sum.lookup_tokens + next.lookup_tokens,
            hit_tokens: sum.hit_tokens + next.hit_tokens,
            limit_bytes: sum.limit_bytes + next.limit_bytes,
            used_bytes: sum.used_bytes + next.used_bytes,
            idle_bytes: sum.idle_bytes + next.idle_bytes,
            evicted_bytes: sum.evicted_bytes + next.evicted_bytes,
        })
    }
}

/// A job that a worker runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct JobInFlight {
    /// Tenant that owns the job.
    pub tenant: Tenant,
    /// Id of the job.
    pub job: JobId,
    /// JetStream acknowledgement subject of this delivery. Publishing `-NAK` to it returns the job to the queue.
    pub ack: String,
    /// True while the job waits for its turn in the worker, which has not touched its content. Such a job is not to blame
    /// for the worker's end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
    /// Redelivery timeout of this delivery in milliseconds. The worker sends a keep-alive at least every third of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redelivery_ms: Option<u64>,
}

impl JobInFlight {
    /// True if both are the same delivery of the same job.
    pub fn is_same_delivery(&self, other: &Self) -> bool {
        self.ack == other.ack
    }

    /// Time for which the server has certainly not delivered the job again, counted from the heartbeat that named it. `None`
    /// if the worker did not report its redelivery timeout.
    ///
    /// The last keep-alive may be a third of the redelivery timeout older than the heartbeat.
    pub fn held_for(&self) -> Option<Duration> {
        self.redelivery_ms.map(|millis| Duration::from_millis(millis - millis / u64::from(KEEP_ALIVES)))
    }
}

/// Heartbeat of a hive, sent every second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HiveHeartbeat {
    /// Epoch: number of this run of the hive.
    pub epoch: u64,
    /// Number of workers that have a process.
    pub workers: u32,
    /// Number of ports that the hive has leased.
    pub ports_leased: u32,
    /// Number of ports that the hive may lease.
    pub ports_total: u32,
    /// Delay of the hive's own timers in milliseconds: a measure of how overloaded its machine is.
    #[serde(default)]
    pub late_ms: u64,
    /// Resources that are free for further workers, if the hive knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<FreeResources>,
}

/// Resources of a hive that are free for further workers, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct FreeResources {
    /// Memory. Memory that running workers have reserved and not used yet does not count as free.
    pub memory: u64,
    /// Disk space for model files.
    pub disk: u64,
    /// Memory of the GPU that has the most free, if the machine has a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_memory: Option<u64>,
}
