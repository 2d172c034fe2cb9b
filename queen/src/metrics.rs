//! The names of all metrics of a queen and of her gateway, and the only places where they are counted.

use std::time::{Duration, Instant};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use rbee_schema::{AlertKind, Chunk, Failure, PromptCacheStats};

use crate::decide::{alert::Alerts, fleet::Fleet, liveness::Presence};

const LEADS: &str = "rbee_queen_leads";
const HIVES: &str = "rbee_queen_hives";
const WORKERS_READY: &str = "rbee_queen_workers_ready";
const JOBS_RUNNING: &str = "rbee_queen_jobs_running";
const JOBS_WAITING: &str = "rbee_queen_jobs_waiting";
const CACHE: &str = "rbee_queen_cache_bytes";
const CACHE_HIT_RATE: &str = "rbee_queen_cache_hit_ratio";
const MODELS: &str = "rbee_queen_models";
const MODELS_REFUSED: &str = "rbee_queen_models_refused";
const WORKERS_ORDERED: &str = "rbee_queen_workers_ordered_total";
const WORKER_START: &str = "rbee_queen_worker_start_seconds";
const HIVES_LOST: &str = "rbee_queen_hives_lost_total";
const JOBS_STRANDED: &str = "rbee_queen_jobs_stranded_total";
const REFUSALS: &str = "rbee_queen_refusals_total";
const IGNORED: &str = "rbee_queen_ignored_total";
const LOGINS_REFUSED: &str = "rbee_queen_logins_refused_total";
const ALERTS: &str = "rbee_queen_alerts";
const ANSWERS: &str = "rbee_gateway_answers_total";
const ANSWERS_OPEN: &str = "rbee_gateway_answers_open";
const FIRST_TOKEN: &str = "rbee_gateway_first_token_seconds";
const ANSWER: &str = "rbee_gateway_answer_seconds";
const TOKENS: &str = "rbee_gateway_tokens_total";

/// Counters without labels. They stand at 0 from the beginning, so that the first count is seen as a rise.
const COUNTERS: [(&str, &str); 6] = [
    (LOGINS_REFUSED, "Connections that the server has not let in."),
    (WORKERS_ORDERED, "Workers that were ordered from hives."),
    (HIVES_LOST, "Hives that were given up because nothing was heard of them."),
    (JOBS_STRANDED, "Jobs of workers that were gone with their hive, given back to the queue."),
    (REFUSALS, "Models whose waiting jobs were answered with a failure because nothing can run them."),
    (TOKENS, "Tokens of answers over HTTP."),
];

/// Says what each metric means.
pub(crate) fn describe() {
    for (name, text) in COUNTERS {
        describe_counter!(name, Unit::Count, text);
        counter!(name).increment(0);
    }
    describe_counter!(IGNORED, Unit::Count, "Messages that are none of ours, by what they pretend to be.");
    describe_counter!(ANSWERS, Unit::Count, "Answers over HTTP that ended, by how: done, or the failure's code.");
    describe_gauge!(ANSWERS_OPEN, Unit::Count, "Answers over HTTP that are being read.");
    describe_gauge!(LEADS, Unit::Count, "1 while this queen leads.");
    describe_gauge!(HIVES, Unit::Count, "Hives, by whether they are heard.");
    describe_gauge!(WORKERS_READY, Unit::Count, "Workers that take jobs.");
    describe_gauge!(JOBS_RUNNING, Unit::Count, "Jobs that run.");
    describe_gauge!(JOBS_WAITING, Unit::Count, "Jobs that wait.");
    describe_gauge!(
        CACHE,
        Unit::Bytes,
        "Memory of all workers' caches: used by jobs that run, idle (remembered for others), and most."
    );
    describe_gauge!(
        CACHE_HIT_RATE,
        "The share of the tokens with which jobs began that their workers remembered, of the workers that are there."
    );
    describe_gauge!(ALERTS, Unit::Count, "Alerts that hold, by kind; 0 where another queen leads.");
    describe_gauge!(MODELS, Unit::Count, "Models that are declared.");
    describe_gauge!(MODELS_REFUSED, Unit::Count, "Declarations that have no effect.");
    describe_histogram!(WORKER_START, Unit::Seconds, "From the order of a worker to its taking jobs.");
    describe_histogram!(FIRST_TOKEN, Unit::Seconds, "From a request over HTTP to the first token of its answer.");
    describe_histogram!(ANSWER, Unit::Seconds, "From a request over HTTP to the end of its answer.");
}

/// What is to be looked at.
pub(crate) fn alerts(alerts: &Alerts) {
    for kind in AlertKind::ALL {
        gauge!(ALERTS, "kind" => kind.as_str()).set(alerts.count(kind) as f64);
    }
}

/// Whether this queen leads.
pub(crate) fn leads(leads: bool) {
    gauge!(LEADS).set(if leads { 1.0 } else { 0.0 });
}

/// What the fleet is made of now.
pub(crate) fn fleet(fleet: &Fleet) {
    for presence in [Presence::Online, Presence::Suspect, Presence::Lost] {
        let count = fleet.hives.values().filter(|hive| hive.liveness.presence() == presence).count();
        gauge!(HIVES, "presence" => presence.as_str()).set(count as f64);
    }
    gauge!(WORKERS_READY).set(fleet.workers.values().filter(|worker| worker.is_ready()).count() as f64);
    gauge!(JOBS_RUNNING).set(fleet.workers.values().map(|worker| worker.jobs.len()).sum::<usize>() as f64);
    gauge!(JOBS_WAITING).set(fleet.queues.values().map(|queue| queue.waiting()).sum::<u64>() as f64);
    let cache = PromptCacheStats::sum(fleet.workers.values().filter_map(|worker| worker.cache));
    gauge!(CACHE_HIT_RATE).set(cache.hit_rate().unwrap_or(0.0));
    for (what, bytes) in [("used", cache.used_bytes), ("idle", cache.idle_bytes), ("limit", cache.limit_bytes)] {
        gauge!(CACHE, "what" => what).set(bytes as f64);
    }
    gauge!(MODELS).set(fleet.models.len() as f64);
    gauge!(MODELS_REFUSED).set(fleet.refused.len() as f64);
}

/// A worker was ordered.
pub(crate) fn ordered() {
    counter!(WORKERS_ORDERED).increment(1);
}

/// A worker that was ordered takes jobs, after this long.
pub(crate) fn fulfilled(took: Duration) {
    histogram!(WORKER_START).record(took);
}

/// A hive was given up.
pub(crate) fn hive_lost() {
    counter!(HIVES_LOST).increment(1);
}

/// Jobs of workers that were gone with their hive were given back.
pub(crate) fn stranded(jobs: usize) {
    counter!(JOBS_STRANDED).increment(jobs as u64);
}

/// The jobs of a model that cannot be started were answered with a failure.
pub(crate) fn refused() {
    counter!(REFUSALS).increment(1);
}

/// The server has not let somebody in.
pub(crate) fn login_refused() {
    counter!(LOGINS_REFUSED).increment(1);
}

/// Something was heard that is no message of ours.
pub(crate) fn ignored(what: &'static str) {
    counter!(IGNORED, "what" => what).increment(1);
}

/// An answer that is being read over HTTP, from the request to its end.
pub(crate) struct Answer {
    begun: Instant,
    has_tokens: bool,
}

impl Answer {
    /// A request was accepted.
    pub(crate) fn begun() -> Self {
        gauge!(ANSWERS_OPEN).increment(1.0);
        Self { begun: Instant::now(), has_tokens: false }
    }

    /// A chunk of it came.
    pub(crate) fn hear(&mut self, chunk: &Chunk) {
        match chunk {
            Chunk::Tokens { ids, .. } => {
                if !std::mem::replace(&mut self.has_tokens, true) {
                    histogram!(FIRST_TOKEN).record(self.begun.elapsed());
                }
                counter!(TOKENS).increment(ids.len() as u64);
            }
            Chunk::Done { .. } => self.ended("done"),
            Chunk::Error { error } => self.ended(error.code.as_str()),
            Chunk::Started { .. } | Chunk::Resumed { .. } | Chunk::Paused { .. } | Chunk::Embeddings { .. } => {}
        }
    }

    /// It was not even begun.
    pub(crate) fn refused(&self, failure: &Failure) {
        self.ended(failure.code.as_str());
    }

    fn ended(&self, how: &'static str) {
        counter!(ANSWERS, "how" => how).increment(1);
        histogram!(ANSWER).record(self.begun.elapsed());
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        gauge!(ANSWERS_OPEN).decrement(1.0);
    }
}
