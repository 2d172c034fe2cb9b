//! The slots of a worker: the jobs that run in them, and the jobs that wait for one to be paused.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use rbee_schema::{JobClass, JobFlow};

/// Time for which a delivered job waits until a batch job has paused, which takes milliseconds. Then it returns to the queue,
/// well before its redelivery timeout.
const HELD: Duration = Duration::from_millis(500);

/// Job that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) flow: JobFlow,
    since: Instant,
    /// Tokens with which its flow was charged.
    pub(super) charged: u64,
    /// Time before which it is not paused, because it is the turn of batch jobs.
    protected: Option<Instant>,
    pausing: bool,
}

/// Slots of a worker. Jobs have the numbers that the caller gives them.
#[derive(Debug)]
pub(super) struct Slots {
    count: usize,
    running: BTreeMap<u64, Running>,
    held: VecDeque<(u64, JobFlow, Instant)>,
}

impl Slots {
    pub(super) fn new(count: u32) -> Self {
        Self { count: count as usize, running: BTreeMap::new(), held: VecDeque::new() }
    }

    /// Number of free slots.
    pub(super) fn free(&self) -> usize {
        self.count.saturating_sub(self.running.len())
    }

    /// Runs a job in a free slot. A batch job is not paused before `protected`.
    pub(super) fn start(&mut self, job: u64, flow: JobFlow, charged: u64, protected: Option<Instant>, now: Instant) {
        self.running.insert(job, Running { flow, since: now, charged, protected, pausing: false });
    }

    /// Removes a job that has ended.
    pub(super) fn end(&mut self, job: u64) -> Option<Running> {
        self.running.remove(&job)
    }

    /// Number of further interactive jobs that batch jobs can make room for.
    pub(super) fn preemptible(&self, now: Instant) -> usize {
        self.running.values().filter(|running| running.may_pause(now)).count()
    }

    /// Holds an interactive job until a batch job has paused. Returns the batch job to pause: the one that started last, which
    /// has the least to compute again. None if no batch job may be paused.
    pub(super) fn hold(&mut self, job: u64, flow: JobFlow, now: Instant) -> Option<u64> {
        let pausable = self.running.iter_mut().filter(|(_, running)| running.may_pause(now));
        let (victim, running) = pausable.max_by_key(|(_, running)| running.since)?;
        running.pausing = true;
        self.held.push_back((job, flow, now));
        Some(*victim)
    }

    /// The next held job, if a slot is free.
    pub(super) fn next_held(&mut self) -> Option<(u64, JobFlow)> {
        if self.free() == 0 {
            return None;
        }
        self.held.pop_front().map(|(job, flow, _)| (job, flow))
    }

    /// Removes held jobs that have waited too long, or all of them.
    pub(super) fn give_up_held(&mut self, all: bool, now: Instant) -> Vec<(u64, JobFlow)> {
        let (gone, kept) = self.held.drain(..).partition(|(.., since)| all || now >= *since + HELD);
        self.held = kept;
        let gone: VecDeque<(u64, JobFlow, Instant)> = gone;
        gone.into_iter().map(|(job, flow, _)| (job, flow)).collect()
    }

    /// Time at which a held job has waited too long or a batch job may be paused.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let held = self.held.front().map(|(.., since)| *since + HELD);
        let ends = self.running.values().filter_map(|running| running.protected).filter(|at| *at > now);
        held.into_iter().chain(ends).min()
    }
}

impl Running {
    fn may_pause(&self, now: Instant) -> bool {
        self.flow.class == JobClass::Batch && !self.pausing && self.protected.is_none_or(|until| now >= until)
    }
}
