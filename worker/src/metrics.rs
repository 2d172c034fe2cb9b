//! The names of all metrics of a worker, and the only places where they are counted.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

const JOBS: &str = "rbee_worker_jobs_total";
const JOBS_RUNNING: &str = "rbee_worker_jobs_running";
const TOKENS: &str = "rbee_worker_tokens_total";
const EMBEDDINGS: &str = "rbee_worker_embeddings_total";
const FIRST_TOKEN: &str = "rbee_worker_time_to_first_token_seconds";
const LOAD: &str = "rbee_worker_load_seconds";

/// Says what each metric means.
pub(crate) fn describe() {
    describe_counter!(JOBS, "Jobs that were settled here, by outcome.");
    describe_gauge!(JOBS_RUNNING, "Jobs that run.");
    describe_counter!(TOKENS, "Tokens of answers that were stored.");
    describe_counter!(EMBEDDINGS, "Inputs whose vectors were stored.");
    describe_histogram!(FIRST_TOKEN, "From taking a job to its first token.");
    describe_gauge!(LOAD, "From the start of the process to ready.");
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

/// The model is loaded.
pub(crate) fn loaded(after: Duration) {
    gauge!(LOAD).set(after);
}
