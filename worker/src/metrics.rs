//! The names of all metrics of a worker, and the only places where they are counted.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use rbee_schema::PromptCacheStats;

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

/// Says what each metric means.
pub(crate) fn describe() {
    describe_counter!(JOBS, "Jobs that were settled here, by outcome.");
    describe_gauge!(JOBS_RUNNING, "Jobs that run.");
    describe_counter!(TOKENS, "Tokens of answers that were stored.");
    describe_counter!(EMBEDDINGS, "Inputs whose vectors were stored.");
    describe_histogram!(FIRST_TOKEN, "From taking a job to its first token.");
    describe_gauge!(LOAD, "From the start of the process to ready.");
    describe_counter!(CACHE_LOOKUPS, "Tokens with which jobs began.");
    describe_counter!(CACHE_HITS, "Tokens with which jobs began that were in the cache and not computed again.");
    describe_counter!(CACHE_EVICTED, "What was forgotten of the cache to make room.");
    describe_gauge!(CACHE_HIT_RATE, "The share of tokens that were in the cache, since the start.");
    describe_gauge!(CACHE, "Memory of the cache: used by jobs that run, idle (remembered for others), and most.");
}

/// A job was settled: `done`, `failed`, or `returned` to the queue.
pub(crate) fn job_settled(outcome: &'static str) {
    counter!(JOBS, "outcome" => outcome).increment(1);
}

/// How many jobs run now.
pub(crate) fn jobs_running(jobs: usize) {
    gauge!(JOBS_RUNNING).set(jobs as f64);
}

/// Tokens were stored.
pub(crate) fn tokens_stored(tokens: usize) {
    counter!(TOKENS).increment(tokens as u64);
}

/// Vectors were stored.
pub(crate) fn embeddings_stored(inputs: usize) {
    counter!(EMBEDDINGS).increment(inputs as u64);
}

/// The first token of a job came.
pub(crate) fn first_token(after: Duration) {
    histogram!(FIRST_TOKEN).record(after);
}

/// What the cache holds and has saved.
pub(crate) fn cache(cache: &PromptCacheStats) {
    counter!(CACHE_LOOKUPS).absolute(cache.lookup_tokens);
    counter!(CACHE_HITS).absolute(cache.hit_tokens);
    counter!(CACHE_EVICTED).absolute(cache.evicted_bytes);
    gauge!(CACHE_HIT_RATE).set(cache.hit_rate().unwrap_or(0.0));
    for (what, bytes) in [("used", cache.used_bytes), ("idle", cache.idle_bytes), ("limit", cache.limit_bytes)] {
        gauge!(CACHE, "what" => what).set(bytes as f64);
    }
}

/// The model is loaded.
pub(crate) fn loaded(after: Duration) {
    gauge!(LOAD).set(after);
}
