//! Names of all metrics of a worker, and the only places where they are counted.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use rbee_schema::{Chunk, PromptCacheStats};

const JOBS: &str = "rbee_worker_jobs_total";
const JOBS_RUNNING: &str = "rbee_worker_jobs_running";
const TOKENS: &str = "rbee_worker_tokens_total";
const EMBEDDINGS: &str = "rbee_worker_embeddings_total";
const FIRST_TOKEN: &str = "rbee_worker_time_to_first_token_seconds";
const LOAD: &str = "rbee_worker_load_seconds";
const CACHE_LOOKUPS: &str = "rbee_worker_cache_lookup_tokens_total";
const CACHE_HITS: &str = "rbee_worker_cache_hit_tokens_total";
const CACHE_EVICTED: &str = "rbee_worker_cache_evicted_bytes_total";
const CACHE_HIT_RATE: &str = "rbee_worker_cache_hit_ratio";
const CACHE: &str = "rbee_worker_cache_bytes";

/// Registers the descriptions of all metrics.
pub(crate) fn describe() {
    describe_counter!(JOBS, "Jobs settled by this worker, by outcome.");
    describe_gauge!(JOBS_RUNNING, "Jobs that run now.");
    describe_counter!(TOKENS, "Stored tokens of answers.");
    describe_counter!(EMBEDDINGS, "Inputs whose vectors are stored.");
    describe_histogram!(FIRST_TOKEN, "Time from the delivery of a job to its first token.");
    describe_gauge!(LOAD, "Time from the start of the process to ready.");
    describe_counter!(CACHE_LOOKUPS, "Prompt tokens looked up in the prompt cache when jobs began.");
    describe_counter!(CACHE_HITS, "Prompt tokens found in the prompt cache and not computed again.");
    describe_counter!(CACHE_EVICTED, "Bytes evicted from the prompt cache to make room.");
    describe_gauge!(CACHE_HIT_RATE, "Share of prompt tokens found in the prompt cache since the start of the process.");
    describe_gauge!(CACHE, "Memory of the KV cache: used by running jobs, idle (kept for later prompts), and limit.");
}

/// Counts a settled job: `done`, `failed`, or `returned` to the queue.
pub(crate) fn job_settled(outcome: &'static str) {
    counter!(JOBS, "outcome" => outcome).increment(1);
}

/// Sets the number of running jobs.
pub(crate) fn jobs_running(jobs: usize) {
    gauge!(JOBS_RUNNING).set(jobs as f64);
}

/// Counts the tokens or vectors of a stored chunk.
pub(crate) fn chunk_stored(chunk: &Chunk) {
    match chunk {
        Chunk::Tokens { ids, .. } => counter!(TOKENS).increment(ids.len() as u64),
        Chunk::Embeddings { vectors, base64, .. } => {
            counter!(EMBEDDINGS).increment((vectors.len() + base64.len()) as u64);
        }
        Chunk::Started { .. }
        | Chunk::Resumed { .. }
        | Chunk::Paused { .. }
        | Chunk::Done { .. }
        | Chunk::Error { .. } => {}
    }
}

/// Records the time to the first token of a job.
pub(crate) fn first_token(after: Duration) {
    histogram!(FIRST_TOKEN).record(after);
}

/// Sets the metrics of the prompt cache.
pub(crate) fn cache(cache: &PromptCacheStats) {
    counter!(CACHE_LOOKUPS).absolute(cache.lookup_tokens);
    counter!(CACHE_HITS).absolute(cache.hit_tokens);
    counter!(CACHE_EVICTED).absolute(cache.evicted_bytes);
    gauge!(CACHE_HIT_RATE).set(cache.hit_rate().unwrap_or(0.0));
    for (what, bytes) in [("used", cache.used_bytes), ("idle", cache.idle_bytes), ("limit", cache.limit_bytes)] {
        gauge!(CACHE, "what" => what).set(bytes as f64);
    }
}

/// Records the time from the start of the process to ready.
pub(crate) fn loaded(after: Duration) {
    gauge!(LOAD).set(after);
}
