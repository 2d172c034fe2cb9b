//! The jobs of a worker, as its heartbeats claim them, and their return to the queue.

use std::time::{Duration, Instant};

use rbee_schema::JobInFlight;

use super::blame::{Blame, ProcessEnd};

/// The jobs that the last heartbeat of a process named.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Claims {
    pub(super) jobs: Vec<JobInFlight>,
    /// Number of them that make no progress because the server does not store their output.
    blocked: u32,
    /// Time of that heartbeat, or of the start of the process.
    heard: Instant,
}

impl Claims {
    /// No jobs yet.
    pub(super) fn none(now: Instant) -> Self {
        Self { jobs: Vec::new(), blocked: 0, heard: now }
    }

    /// Takes the jobs of a heartbeat. Returns true if a job that ran has ended while the process lives.
    pub(super) fn update(&mut self, jobs: Vec<JobInFlight>, blocked: u32, now: Instant) -> bool {
        let is_there = |ran: &JobInFlight| jobs.iter().any(|job| job.is_same_delivery(ran));
        let has_ended = self.jobs.iter().any(|ran| !ran.waits && !is_there(ran));
        *self = Self { jobs, blocked, heard: now };
        has_ended
    }

    /// True if the worker has a job that can make progress. A job that waits for its turn cannot: it waits for those that run.
    pub(super) fn is_busy(&self) -> bool {
        self.jobs.iter().filter(|job| !job.waits).count() > self.blocked as usize
    }
}

/// Jobs of a worker that has ended, which return to the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Returns {
    /// The jobs.
    pub jobs: Vec<JobInFlight>,
    /// Last lines of the worker's standard error.
    pub stderr_tail: Vec<String>,
    /// The blame of those that ran; `None` if no job caused the end.
    pub blame: Option<Blame>,
    /// Time from which on the jobs are left to the redelivery timeout: the server may have delivered them again by then, and
    /// a nak would end that delivery. `None` if the redelivery timeout is unknown.
    pub until: Option<Instant>,
}

/// The last run of a worker that has ended. Its last heartbeat may arrive after its end.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EndedRun {
    epoch: u64,
    end: ProcessEnd,
    stderr_tail: Vec<String>,
    returned: Vec<JobInFlight>,
    heard: Instant,
}

impl EndedRun {
    /// The end of run `epoch`, and the return of its jobs. `None` if there is none to return.
    pub(super) fn new(
        epoch: u64,
        end: ProcessEnd,
        stderr_tail: Vec<String>,
        claims: Claims,
    ) -> (Self, Option<Returns>) {
        let Claims { jobs, heard, .. } = claims;
        let mut ended = Self { epoch, end, stderr_tail, returned: Vec::new(), heard };
        let returns = ended.take_back(jobs);
        (ended, returns)
    }

    /// Handles a heartbeat of run `epoch` that arrives after its end: a job that the worker took last returns to the queue too.
    /// Of an earlier run, nothing does: it is not known any more what was returned.
    pub(super) fn late_heartbeat(&mut self, epoch: u64, jobs: Vec<JobInFlight>) -> Option<Returns> {
        if epoch == self.epoch { self.take_back(jobs) } else { None }
    }

    fn take_back(&mut self, jobs: Vec<JobInFlight>) -> Option<Returns> {
        let blame = Blame::of(self.end, &jobs);
        let is_new = |job: &JobInFlight| !self.returned.iter().any(|returned| returned.is_same_delivery(job));
        let jobs: Vec<JobInFlight> = jobs.into_iter().filter(is_new).collect();
        self.returned.extend(jobs.iter().cloned());
        let held: Option<Duration> = jobs.iter().filter_map(JobInFlight::held_for).min();
        let until = held.map(|held| self.heard + held);
        let stderr_tail = self.stderr_tail.clone();
        (!jobs.is_empty()).then_some(Returns { jobs, stderr_tail, blame, until })
    }
}
