//! Names of all metrics of the queen and of its gateway, and the only places that record them.

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
const DEADLINES_MISSED: &str = "rbee_queen_deadlines_missed_total";
const IGNORED: &str = "rbee_queen_ignored_total";
const MESSAGES_LOST: &str = "rbee_queen_messages_lost_total";
const LOGINS_REFUSED: &str = "rbee_queen_logins_refused_total";
const ALERTS: &str = "rbee_queen_alerts";
const ANSWERS: &str = "rbee_gateway_answers_total";
const ANSWERS_OPEN: &str = "rbee_gateway_answers_open";
const FIRST_TOKEN: &str = "rbee_gateway_first_token_seconds";
const ANSWER: &str = "rbee_gateway_answer_seconds";
const TOKENS: &str = "rbee_gateway_tokens_total";

/// Counters without labels. They start at 0, so that Prometheus sees the first count as an increase.
const COUNTERS: [(&str, &str); 7] = [
    (LOGINS_REFUSED, "Logins that the server refused."),
    (WORKERS_ORDERED, "Spawn commands sent to hives."),
    (HIVES_LOST, "Hives that became lost because they sent no heartbeats."),
    (JOBS_STRANDED, "Jobs returned to the queue because their worker and its hive were unreachable."),
    (REFUSALS, "Times that the waiting jobs of a model were answered with a failure because no hive can run it."),
    (DEADLINES_MISSED, "Jobs that ended in the queue because of their deadlines."),
    (TOKENS, "Tokens in answers over HTTP."),
];

/// Registers the description of each metric.
pub(crate) fn describe() {
    for (name, text) in COUNTERS {
        describe_counter!(name, Unit::Count, text);
        counter!(name).increment(0);
    }
    describe_counter!(IGNORED, Unit::Count, "Messages and registry entries that could not be used, by kind.");
    describe_counter!(
        ANSWERS,
        Unit::Count,
        "Answers over HTTP that ended, by outcome: `done`, or the code of the failure."
    );
    describe_gauge!(ANSWERS_OPEN, Unit::Count, "Answers over HTTP in progress.");
    describe_gauge!(LEADS, Unit::Count, "1 while this queen leads, else 0.");
    describe_gauge!(HIVES, Unit::Count, "Hives, by presence: online, suspect or lost.");
    describe_gauge!(WORKERS_READY, Unit::Count, "Workers that are ready for jobs.");
    describe_gauge!(JOBS_RUNNING, Unit::Count, "Running jobs.");
    describe_gauge!(JOBS_WAITING, Unit::Count, "Waiting jobs.");
    describe_gauge!(
        CACHE,
        Unit::Bytes,
        "Memory of the prompt caches of all workers: used by running jobs, idle (kept for later jobs), and most (the limit)."
    );
    describe_gauge!(
        CACHE_HIT_RATE,
        "Share of prompt tokens that workers found in their prompt cache, over all current workers."
    );
    describe_gauge!(ALERTS, Unit::Count, "Raised alerts, by kind; 0 on queens that do not lead.");
    describe_gauge!(MODELS, Unit::Count, "Declared models.");
    describe_counter!(MESSAGES_LOST, Unit::Count, "Events that the bus could not store.");
    describe_gauge!(MODELS_REFUSED, Unit::Count, "Invalid model declarations.");
    describe_histogram!(WORKER_START, Unit::Seconds, "Time from the spawn command of a worker until it is ready.");
    describe_histogram!(FIRST_TOKEN, Unit::Seconds, "Time from a request over HTTP to the first token of its answer.");
    describe_histogram!(ANSWER, Unit::Seconds, "Time from a request over HTTP to the end of its answer.");
}

/// Records the number of raised alerts.
pub(crate) fn alerts(alerts: &Alerts) {
    for kind in AlertKind::ALL {
        gauge!(ALERTS, "kind" => kind.as_str()).set(alerts.count(kind) as f64);
    }
}

/// Records whether this queen leads.
pub(crate) fn leads(leads: bool) {
    gauge!(LEADS).set(if leads { 1.0 } else { 0.0 });
}

/// Records the state of the fleet.
pub(crate) fn fleet(fleet: &Fleet) {
    for presence in [Presence::Online, Presence::Suspect, Presence::Lost] {
        let count = fleet.hives().values().filter(|hive| hive.liveness.presence() == presence).count();
        gauge!(HIVES, "presence" => presence.as_str()).set(count as f64);
    }
    gauge!(WORKERS_READY).set(fleet.workers().values().filter(|worker| worker.is_ready()).count() as f64);
    gauge!(JOBS_RUNNING).set(fleet.workers().values().map(|worker| worker.jobs.len()).sum::<usize>() as f64);
    gauge!(JOBS_WAITING).set(fleet.queues().values().map(|queue| queue.waiting()).sum::<u64>() as f64);
    let cache = PromptCacheStats::sum(fleet.workers().values().filter_map(|worker| worker.usage.cache));
    gauge!(CACHE_HIT_RATE).set(cache.hit_rate().unwrap_or(0.0));
    for (what, bytes) in [("used", cache.used_bytes), ("idle", cache.idle_bytes), ("limit", cache.limit_bytes)] {
        gauge!(CACHE, "what" => what).set(bytes as f64);
    }
    gauge!(MODELS).set(fleet.models().len() as f64);
    gauge!(MODELS_REFUSED).set(fleet.refused_models().len() as f64);
}

/// Sets the number of events that could not be stored since the start.
pub(crate) fn lost_messages(count: u64) {
    counter!(MESSAGES_LOST).absolute(count);
}

/// Counts a spawn command.
pub(crate) fn spawn_commanded() {
    counter!(WORKERS_ORDERED).increment(1);
}

/// Records the time from a spawn command until the worker was ready.
pub(crate) fn fulfilled(took: Duration) {
    histogram!(WORKER_START).record(took);
}

/// Counts a lost hive.
pub(crate) fn hive_lost() {
    counter!(HIVES_LOST).increment(1);
}

/// Counts jobs that were returned to the queue for unreachable workers.
pub(crate) fn stranded(jobs: usize) {
    counter!(JOBS_STRANDED).increment(jobs as u64);
}

/// A job ended in the queue because of its deadlines.
pub(crate) fn deadline_missed() {
    counter!(DEADLINES_MISSED).increment(1);
}

/// Counts a model whose waiting jobs were answered with a failure.
pub(crate) fn refused() {
    counter!(REFUSALS).increment(1);
}

/// Counts a refused login.
pub(crate) fn login_refused() {
    counter!(LOGINS_REFUSED).increment(1);
}

/// Counts a message or registry entry that could not be used.
pub(crate) fn ignored(what: &'static str) {
    counter!(IGNORED, "what" => what).increment(1);
}

/// An answer over HTTP, from the request to its end.
pub(crate) struct Answer {
    started: Instant,
    has_tokens: bool,
}

impl Answer {
    /// Starts the clock of an answer.
    pub(crate) fn start() -> Self {
        gauge!(ANSWERS_OPEN).increment(1.0);
        Self { started: Instant::now(), has_tokens: false }
    }

    /// Records a chunk of the answer.
    pub(crate) fn record_chunk(&mut self, chunk: &Chunk) {
        match chunk {
            Chunk::Tokens { ids, .. } => {
                if !std::mem::replace(&mut self.has_tokens, true) {
                    histogram!(FIRST_TOKEN).record(self.started.elapsed());
                }
                counter!(TOKENS).increment(ids.len() as u64);
            }
            Chunk::Done { .. } => self.ended("done"),
            Chunk::Error { error } => self.ended(error.code.as_str()),
            Chunk::Started { .. } | Chunk::Resumed { .. } | Chunk::Paused { .. } | Chunk::Embeddings { .. } => {}
        }
    }

    /// Records that the request was refused.
    pub(crate) fn refused(&self, failure: &Failure) {
        self.ended(failure.code.as_str());
    }

    fn ended(&self, how: &'static str) {
        counter!(ANSWERS, "how" => how).increment(1);
        histogram!(ANSWER).record(self.started.elapsed());
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        gauge!(ANSWERS_OPEN).decrement(1.0);
    }
}
