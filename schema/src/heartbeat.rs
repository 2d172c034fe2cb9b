//! Heartbeats: what a hive and a worker tell about themselves, whole each time. Not stored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{JobId, ModelName, Tenant};

/// A worker's heartbeat: every second, and at once when a job comes or goes.
///
/// It is also the worker's claim on its jobs: the hive gives back what the last beat of a dead worker names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerHeartbeat {
    /// The model that it serves.
    pub model: ModelName,
    /// Which run of the worker this is.
    pub epoch: u64,
    /// How many jobs it can run at a time.
    pub slots: u32,
    /// The jobs that it runs.
    #[serde(default)]
    pub jobs: Vec<JobInFlight>,
    /// Tokens made since it started, or read, where it computes embeddings.
    #[serde(default)]
    pub tokens: u64,
    /// Steps of the engine since it started, those that read a prompt too; a counter that stands still with jobs in
    /// flight means that it hangs.
    #[serde(default)]
    pub steps: u64,
    /// Resident memory in bytes.
    #[serde(default)]
    pub memory_bytes: u64,
    /// What it remembers of prompts, where its engine does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PromptCacheStats>,
}

/// What a worker remembers of prompts and answers, so that those which begin alike are not computed again. What was unused
/// for the longest time is forgotten first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PromptCacheStats {
    /// Tokens with which jobs began, since it started: prompts, and answers that were resumed.
    pub lookup_tokens: u64,
    /// How many of them were remembered.
    pub hit_tokens: u64,
    /// The memory that it may take, in bytes.
    pub limit_bytes: u64,
    /// What jobs that run use of it.
    pub used_bytes: u64,
    /// What is remembered for others besides.
    pub idle_bytes: u64,
    /// What was forgotten to make room, since it started.
    pub evicted_bytes: u64,
}

impl PromptCacheStats {
    /// The share of tokens that were remembered, from 0 to 1; `None` where none was asked for yet.
    pub fn hit_rate(&self) -> Option<f64> {
        (self.lookup_tokens > 0).then(|| self.hit_tokens as f64 / self.lookup_tokens as f64)
    }

    /// Those of several workers together.
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
    /// Whose it is.
    pub tenant: Tenant,
    /// Which it is.
    pub job: JobId,
    /// The JetStream acknowledgement subject of this delivery: `-NAK` to it gives the job back.
    pub ack: String,
}

/// A hive's heartbeat: every second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HiveHeartbeat {
    /// Which run of the hive this is.
    pub epoch: u64,
    /// Workers with a process.
    pub workers: u32,
    /// Ports that it has leased.
    pub ports_leased: u32,
    /// Ports that it may lease.
    pub ports_total: u32,
    /// By how much its own clock ticks late, in milliseconds: how overloaded its machine is.
    #[serde(default)]
    pub late_ms: u64,
    /// What it has left for further workers, where it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<FreeResources>,
}

/// What a hive has left for further workers, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct FreeResources {
    /// Memory, without what running workers have yet to touch.
    pub memory: u64,
    /// Disk for model files.
    pub disk: u64,
    /// Memory of the graphics card that has most of it, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_memory: Option<u64>,
}
