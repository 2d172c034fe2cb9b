//! The leading queen's watch over deadlines: its clock, its book, and its looks at the queue.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime},
};

use rbee_nats::{Bus, BusError, JobClock, JobFilter, QueuedJob};
use rbee_schema::ClassLimits;

use crate::decide::deadlines::{Check, DeadlineBook, StoredJob, SweepCheck, Swept};

/// Maximum number of stated deadlines that are remembered: some 5 MB. Further ones are read from the queue when they are due.
const MOST: usize = 100_000;

/// Deadlines of the jobs in the queue, and the task that looks at them.
pub(super) struct Watch {
    pub(super) clock: JobClock,
    pub(super) book: DeadlineBook,
    /// Number of times that the book was begun anew. What an earlier look has found no longer counts for it.
    pub(super) edition: u64,
    /// True while a task looks at jobs or answers them.
    pub(super) is_running: bool,
    /// Time before which no look begins.
    pub(super) paused_until: Instant,
}

/// Result of a look at the queue.
pub(super) struct Looked {
    pub(super) edition: u64,
    pub(super) found: Result<Found, BusError>,
}

/// Content of the queue that was found by a look.
#[derive(Default)]
pub(super) struct Found {
    /// Jobs of which a deadline may have come, by their sequence.
    pub(super) jobs: BTreeMap<u64, QueuedJob>,
    /// Jobs that were read.
    pub(super) read: Vec<StoredJob>,
    /// Sequence from which on the queue is still to be read.
    pub(super) unread: Option<u64>,
    pub(super) swept: Vec<Swept>,
}

impl Watch {
    pub(super) fn new(bus: &Bus) -> Self {
        Self {
            clock: JobClock::start(bus),
            book: DeadlineBook::new(MOST),
            edition: 0,
            is_running: false,
            paused_until: Instant::now(),
        }
    }

    /// Time of the next look.
    pub(super) fn wake(&self) -> Option<Instant> {
        if self.is_running {
            return None;
        }
        let due = self.clock.latest()?.moment(self.book.due()?, Instant::now());
        Some(due.max(self.paused_until))
    }

    /// Begins anew: the queue is read once.
    pub(super) fn restart(&mut self, limits: ClassLimits) {
        self.edition += 1;
        self.book.restart(limits);
    }
}

/// Reads what is to be looked at, at `time` of the server.
///
/// # Errors
/// The server does not answer.
pub(super) async fn look(
    bus: &Bus,
    Check { unread, sequences, sweeps }: Check,
    time: SystemTime,
) -> Result<Found, BusError> {
    let mut found = Found::default();
    if let Some(from) = unread {
        let batch = bus.queued_jobs(&bus.namespace().all_jobs(), from).await?;
        found.unread = batch.last().map(|last| last.sequence + 1);
        found.read = batch.into_iter().filter_map(stored_job).collect();
    }
    let mut wanted = sequences;
    while let Some(first) = wanted.first().copied() {
        // The first job from there on: if it is a later one, all that are wanted before it have left the queue.
        let batch = bus.open_jobs(&JobFilter::default(), first.saturating_sub(1), 1).await?;
        let Some(job) = batch.jobs.into_iter().next() else { break };
        let is_wanted = wanted.contains(&job.sequence);
        wanted = wanted.split_off(&(job.sequence + 1));
        if is_wanted {
            found.jobs.insert(job.sequence, job);
        }
    }
    for sweep in sweeps {
        let (swept, jobs) = look_at_class(bus, sweep, time).await?;
        found.swept.push(swept);
        found.jobs.extend(jobs.into_iter().map(|job| (job.sequence, job)));
    }
    Ok(found)
}

/// Reads the first jobs of a class. Returns those that have passed the limit.
async fn look_at_class(bus: &Bus, sweep: SweepCheck, time: SystemTime) -> Result<(Swept, Vec<QueuedJob>), BusError> {
    let mut jobs = bus.queued_jobs(&bus.namespace().jobs_of_class(sweep.class), sweep.from).await?;
    let passed = jobs.iter().take_while(|job| job.stored + sweep.limit <= time).count();
    let rest = jobs.split_off(passed);
    let (from, next_stored) = match (rest.first(), jobs.last()) {
        (Some(next), _) => (next.sequence, Some(next.stored)),
        // There may be more of them.
        (None, Some(last)) => (last.sequence + 1, Some(last.stored)),
        (None, None) => (sweep.from, None),
    };
    Ok((Swept { sweep: SweepCheck { from, ..sweep }, next_stored }, jobs))
}

fn stored_job(job: QueuedJob) -> Option<StoredJob> {
    let QueuedJob { sequence, class, stored, deadlines, .. } = job;
    Some(StoredJob { sequence, class: class?, stored, deadlines })
}
