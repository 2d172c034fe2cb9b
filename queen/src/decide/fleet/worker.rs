//! One worker, and a spawn that no hive has reported yet.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use rbee_schema::{
    Failure, FailureCode, HiveName, JobId, JobInFlight, ModelName, PromptCacheStats, Tenant, WorkerName, WorkerPhase,
    WorkerRecord,
};

/// Hive and name of a worker.
pub type WorkerKey = (HiveName, WorkerName);

/// One worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// Record that the hive wrote about the worker.
    pub record: WorkerRecord,
    /// Time of the record, by the server's clock.
    pub recorded_at: Option<SystemTime>,
    /// Time at which the record was deleted although the worker serves.
    pub(super) record_missing_since: Option<Instant>,
    /// Jobs that the worker runs.
    pub jobs: RunningJobs,
    /// Resources in use, as of the last heartbeat.
    pub usage: WorkerUsage,
    pub(super) contact: Contact,
    /// Start of the time without jobs.
    pub idle_since: Instant,
    /// Time at which the worker became ready; `None` while it has no process or is not ready yet.
    pub ready_since: Option<Instant>,
    /// Time at which the queen commanded the worker to stop.
    pub stop_commanded: Option<Instant>,
    /// Spawn command that started the worker, until the worker is ready.
    pub(super) spawn: Option<PendingSpawn>,
    /// Reason of the crash loop, from its start until the worker is ready. One more try does not end a crash loop.
    pub crash_loop: Option<Failure>,
}

/// A spawn command of which the hive has reported nothing yet.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingSpawn {
    /// Model of the new worker.
    pub model: ModelName,
    /// Time of the command.
    pub commanded_at: Instant,
    /// Expected time from the command until the worker is ready.
    pub expected: Option<Duration>,
}

/// Resources that a worker uses.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WorkerUsage {
    /// Tokens generated since the worker started.
    pub tokens: u64,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
    /// Use of the prompt cache, where the engine has one.
    pub cache: Option<PromptCacheStats>,
}

/// Last sign of life of a worker.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Contact {
    pub(super) heard: Instant,
    /// The server reported the end of the worker's connection, and no heartbeat came since.
    pub(super) is_disconnected: bool,
}

/// Jobs that a worker runs, from its heartbeats.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunningJobs {
    in_flight: Vec<JobInFlight>,
    /// Time of the heartbeat that named them.
    named_at: Option<Instant>,
    started: BTreeMap<(Tenant, JobId), Instant>,
    /// Jobs that were returned to the queue on behalf of the worker. Returning a job twice would take it from the worker
    /// that has it by then.
    returned: Vec<JobInFlight>,
}

/// Difference between two heartbeats of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobsChange {
    /// Running time of each finished job.
    pub(super) finished: Vec<Duration>,
    /// Number of new jobs.
    pub(super) taken: u64,
}

impl Worker {
    /// A worker that is seen for the first time. `spawn` is the command that it answers.
    pub(super) fn new(record: WorkerRecord, spawn: Option<PendingSpawn>, now: Instant) -> Self {
        Self {
            record,
            recorded_at: None,
            record_missing_since: None,
            jobs: RunningJobs::default(),
            usage: WorkerUsage::default(),
            contact: Contact { heard: now, is_disconnected: false },
            idle_since: now,
            ready_since: None,
            stop_commanded: None,
            spawn,
            crash_loop: None,
        }
    }

    /// True while the worker takes jobs and has none.
    pub fn is_idle(&self) -> bool {
        self.is_ready() && self.jobs.is_empty()
    }

    /// True while the worker takes jobs.
    pub fn is_ready(&self) -> bool {
        self.record.phase == WorkerPhase::Ready
    }

    /// True if the worker serves its model or will soon.
    pub fn counts(&self) -> bool {
        counts(self.record.phase)
    }

    /// True while the worker has a process.
    pub fn has_process(&self) -> bool {
        has_process(self.record.phase)
    }

    /// True if neither a heartbeat came for `timeout` nor the connection stands.
    pub(super) fn is_unreachable(&self, now: Instant, timeout: Duration) -> bool {
        self.contact.is_disconnected || now >= self.contact.heard + timeout
    }

    /// True if the worker takes jobs, is not to stop, and was heard from within `timeout`.
    pub(super) fn serves(&self, now: Instant, timeout: Duration) -> bool {
        self.is_ready() && self.stop_commanded.is_none() && !self.is_unreachable(now, timeout)
    }

    /// Takes a new record of the hive.
    pub(super) fn set_record(&mut self, record: WorkerRecord) {
        self.record_missing_since = None;
        if !has_process(record.phase) {
            self.ready_since = None;
            self.jobs = RunningJobs::default();
            self.usage.cache = None;
        }
        self.crash_loop = match record.phase {
            WorkerPhase::CrashLoop => Some(record.failure.clone().unwrap_or_else(|| exited_too_often(&record))),
            WorkerPhase::Ready | WorkerPhase::Failed => None,
            WorkerPhase::Requested
            | WorkerPhase::Spawning
            | WorkerPhase::Loading
            | WorkerPhase::Suspect
            | WorkerPhase::Draining
            | WorkerPhase::Stopping
            | WorkerPhase::Backoff => self.crash_loop.take(),
        };
        self.record = record;
    }
}

impl RunningJobs {
    /// Number of jobs.
    pub fn len(&self) -> usize {
        self.in_flight.len()
    }

    /// True if the worker runs no job.
    pub fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// True if the worker runs this job.
    pub fn contains(&self, tenant: &Tenant, job: &JobId) -> bool {
        self.in_flight.iter().any(|running| running.job == *job && running.tenant == *tenant)
    }

    /// The jobs, in the order of the heartbeat.
    pub fn iter(&self) -> impl Iterator<Item = &JobInFlight> {
        self.in_flight.iter()
    }

    /// Takes the jobs of a heartbeat. Returns the difference, if there is one.
    pub(super) fn update(&mut self, reported: Vec<JobInFlight>, now: Instant) -> Option<JobsChange> {
        let change = (self.in_flight != reported).then(|| self.difference(&reported, now));
        self.returned.retain(|job| reported.iter().any(|reported| reported.is_same_delivery(job)));
        self.in_flight = reported;
        self.named_at = Some(now);
        change
    }

    fn difference(&mut self, reported: &[JobInFlight], now: Instant) -> JobsChange {
        let is_running =
            |(tenant, id): &(Tenant, JobId)| reported.iter().any(|job| job.tenant == *tenant && job.job == *id);
        let mut finished = Vec::new();
        self.started.retain(|id, started| {
            let is_running = is_running(id);
            if !is_running {
                finished.push(now.saturating_duration_since(*started));
            }
            is_running
        });
        let before = self.started.len();
        for job in reported {
            self.started.entry((job.tenant.clone(), job.job.clone())).or_insert(now);
        }
        JobsChange { finished, taken: (self.started.len() - before) as u64 }
    }

    /// True if a job was not returned to the queue yet.
    pub(super) fn has_unreturned(&self) -> bool {
        self.in_flight.iter().any(|job| !self.is_returned(job))
    }

    fn is_returned(&self, job: &JobInFlight) -> bool {
        self.returned.iter().any(|returned| returned.is_same_delivery(job))
    }

    /// Jobs that were not returned to the queue yet. From now on they count as returned. Those that the server may have
    /// delivered again by itself are left to it, because a nak would end that delivery.
    pub(super) fn take_unreturned(&mut self, now: Instant) -> Vec<JobInFlight> {
        let silence = self.named_at.map_or(Duration::ZERO, |named| now.saturating_duration_since(named));
        let jobs: Vec<JobInFlight> = self.in_flight.iter().filter(|job| !self.is_returned(job)).cloned().collect();
        self.returned.extend(jobs.iter().cloned());
        jobs.into_iter().filter(|job| job.held_for().is_none_or(|held| silence < held)).collect()
    }
}

fn exited_too_often(record: &WorkerRecord) -> Failure {
    Failure::new(FailureCode::CrashLoop, format!("the worker exited {} times in a row", record.exits))
}

/// True if a worker in this phase serves its model or will soon. A suspect one counts: it may only be slow.
pub(super) fn counts(phase: WorkerPhase) -> bool {
    match phase {
        WorkerPhase::Requested
        | WorkerPhase::Spawning
        | WorkerPhase::Loading
        | WorkerPhase::Ready
        | WorkerPhase::Suspect
        | WorkerPhase::Backoff => true,
        WorkerPhase::Draining | WorkerPhase::Stopping | WorkerPhase::CrashLoop | WorkerPhase::Failed => false,
    }
}

/// True if a worker in this phase has a process.
pub(super) fn has_process(phase: WorkerPhase) -> bool {
    match phase {
        WorkerPhase::Spawning
        | WorkerPhase::Loading
        | WorkerPhase::Ready
        | WorkerPhase::Suspect
        | WorkerPhase::Draining
        | WorkerPhase::Stopping => true,
        WorkerPhase::Requested | WorkerPhase::Backoff | WorkerPhase::CrashLoop | WorkerPhase::Failed => false,
    }
}
