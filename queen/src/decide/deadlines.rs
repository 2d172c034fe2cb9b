//! Deadlines of the jobs in the queue: the parts of it that the leading queen must look at, and when. All times are those of the server.
//!
//! Two kinds of deadlines are kept apart, so that memory stays small however long the queue is:
//!
//! - Deadlines that jobs state are entries of a book, earliest first. A full book drops the latest and remembers the earliest of
//!   those that it has dropped: when that one comes, the queue is read again.
//! - Limits of a class need no entries. The jobs of a class pass their limit in the order in which they were stored, so a sweep
//!   remembers how far it has come and when the next job is due.
//!
//! Entries of jobs that have left the queue are not removed. They are found to be gone when they are due.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use rbee_schema::{ClassLimits, Deadline, Deadlines, Failure, JobClass, Missed, TimeLimits};

/// Maximum number of entries that are looked at together.
const AT_ONCE: usize = 500;

/// Deadlines of the jobs in the queue.
#[derive(Debug, Clone)]
pub struct DeadlineBook {
    limits: Option<ClassLimits>,
    /// Stated deadlines, each with the sequence of its job.
    entries: BTreeSet<(SystemTime, u64)>,
    /// Maximum number of entries.
    most: usize,
    /// Earliest deadline for which there was no room.
    dropped: Option<SystemTime>,
    sweeps: Vec<Sweep>,
    /// Sequence from which on the queue is still to be read.
    unread: Option<u64>,
}

#[derive(Debug, Clone)]
struct Sweep {
    class: JobClass,
    limit: Duration,
    from: u64,
    next: Option<SystemTime>,
}

/// Job as the book sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredJob {
    /// Sequence in the queue.
    pub sequence: u64,
    /// Class of the job.
    pub class: JobClass,
    /// Time at which the server stored the job.
    pub stored: SystemTime,
    /// Deadlines that the job states, or the failure that refuses it.
    pub deadlines: Result<Deadlines, Failure>,
}

/// Parts of the queue that are to be looked at now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Check {
    /// The queue is to be read from this sequence on.
    pub unread: Option<u64>,
    /// Jobs of which a stated deadline has come, in order.
    pub sequences: BTreeSet<u64>,
    /// Classes with jobs that may have passed a limit.
    pub sweeps: Vec<SweepCheck>,
}

/// Jobs of one class that may have passed a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepCheck {
    /// Class of the jobs.
    pub class: JobClass,
    /// Limit that they may have passed.
    pub limit: Duration,
    /// Sequence of the first one.
    pub from: u64,
}

/// Progress of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// The jobs that were looked at. `from` is the first one that was not.
    pub sweep: SweepCheck,
    /// Time at which that one was stored. `None` if there is none.
    pub next_stored: Option<SystemTime>,
}

impl DeadlineBook {
    /// A book for `most` entries that keeps nothing yet.
    pub fn new(most: usize) -> Self {
        Self { limits: None, entries: BTreeSet::new(), most, dropped: None, sweeps: Vec::new(), unread: None }
    }

    /// Limits of jobs that state no deadlines. `None` while nothing is kept.
    pub fn limits(&self) -> Option<ClassLimits> {
        self.limits
    }

    /// Begins anew: the whole queue is to be read.
    pub fn restart(&mut self, limits: ClassLimits) {
        let class_sweeps = |class: JobClass| {
            let TimeLimits { total, queue } = limits.of(class);
            let limits = queue.into_iter().chain(total);
            limits.map(move |limit| Sweep { class, limit, from: 1, next: Some(SystemTime::UNIX_EPOCH) })
        };
        let sweeps = JobClass::ALL.into_iter().flat_map(class_sweeps).collect();
        *self = Self { limits: Some(limits), sweeps, unread: Some(1), ..Self::new(self.most) };
    }

    /// Keeps nothing any more.
    pub fn clear(&mut self) {
        *self = Self::new(self.most);
    }

    /// A job was stored, or was found in the queue.
    pub fn add(&mut self, job: &StoredJob) {
        if self.limits.is_none() {
            return;
        }
        let StoredJob { sequence, class, stored, deadlines } = job;
        match deadlines {
            Ok(Deadlines { total, queue }) => {
                for stated in [queue, total] {
                    if let Deadline::After(limit) = stated {
                        self.insert(*stored + *limit, *sequence);
                    }
                }
            }
            // It is refused at once.
            Err(_) => self.insert(*stored, *sequence),
        }
        for sweep in self.sweeps.iter_mut().filter(|sweep| sweep.class == *class) {
            sweep.next.get_or_insert(*stored + sweep.limit);
        }
    }

    fn insert(&mut self, due: SystemTime, sequence: u64) {
        self.entries.insert((due, sequence));
        if self.entries.len() > self.most
            && let Some((latest, _)) = self.entries.pop_last()
        {
            self.dropped = self.dropped.into_iter().chain([latest]).min();
        }
    }

    /// Time at which something is to be looked at. One that has passed stands for now.
    pub fn due(&self) -> Option<SystemTime> {
        let unread = self.unread.map(|_| SystemTime::UNIX_EPOCH);
        let stated = self.entries.first().map(|(due, _)| *due);
        let swept = self.sweeps.iter().filter_map(|sweep| sweep.next);
        unread.into_iter().chain(stated).chain(self.dropped).chain(swept).min()
    }

    /// Takes what is to be looked at at `now`.
    pub fn take_due(&mut self, now: SystemTime) -> Check {
        if self.dropped.take_if(|dropped| *dropped <= now).is_some() {
            self.unread = Some(1);
        }
        let mut check = Check { unread: self.unread.take(), ..Check::default() };
        while check.sequences.len() < AT_ONCE
            && let Some((due, sequence)) = self.entries.first().copied()
            && due <= now
        {
            self.entries.pop_first();
            check.sequences.insert(sequence);
        }
        for sweep in &mut self.sweeps {
            if sweep.next.take_if(|next| *next <= now).is_some() {
                check.sweeps.push(SweepCheck { class: sweep.class, limit: sweep.limit, from: sweep.from });
            }
        }
        check
    }

    /// The queue was read up to `unread`, or to its end.
    pub fn read_to(&mut self, unread: Option<u64>) {
        self.unread = self.unread.into_iter().chain(unread).min();
    }

    /// A sweep has come further.
    pub fn swept(&mut self, Swept { sweep: SweepCheck { class, limit, from }, next_stored }: Swept) {
        let is_it = |sweep: &&mut Sweep| sweep.class == class && sweep.limit == limit;
        for sweep in self.sweeps.iter_mut().filter(is_it) {
            sweep.from = sweep.from.max(from);
            sweep.next = sweep.next.into_iter().chain(next_stored.map(|stored| stored + limit)).min();
        }
    }
}

/// Meaning of a deadline for a job in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The job states an invalid deadline.
    Invalid(Failure),
    /// A deadline has come.
    Expired {
        /// The deadline that a job has missed which was not started.
        waiting: Missed,
        /// The deadline that it has missed if it was started.
        started: Option<Missed>,
    },
}

/// The verdict about a job that was stored so long ago, in a class with these limits. `None` if it has time left.
pub fn verdict(age: Duration, limits: TimeLimits, deadlines: &Result<Deadlines, Failure>) -> Option<Verdict> {
    let limits = match deadlines {
        Ok(stated) => stated.or(limits),
        Err(failure) => return Some(Verdict::Invalid(failure.clone())),
    };
    let waiting = limits.missed(age, false)?;
    Some(Verdict::Expired { waiting, started: limits.missed(age, true) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    fn job(sequence: u64, stored: u64, deadlines: Deadlines) -> StoredJob {
        StoredJob { sequence, class: JobClass::Interactive, stored: at(stored), deadlines: Ok(deadlines) }
    }

    fn total(seconds: u64) -> Deadlines {
        Deadlines { total: Deadline::After(Duration::from_secs(seconds)), ..Deadlines::default() }
    }

    /// A book that has read an empty queue.
    fn book(most: usize, limits: ClassLimits) -> DeadlineBook {
        let mut book = DeadlineBook::new(most);
        book.restart(limits);
        let check = book.take_due(at(0));
        assert_eq!(check.unread, Some(1));
        book.read_to(None);
        for sweep in check.sweeps {
            book.swept(Swept { sweep, next_stored: None });
        }
        assert_eq!(book.due(), None, "nothing is waited for without jobs");
        book
    }

    fn queue_limit(seconds: u64) -> ClassLimits {
        let interactive = TimeLimits { queue: Some(Duration::from_secs(seconds)), total: None };
        ClassLimits { interactive, ..ClassLimits::default() }
    }

    #[test]
    fn stated_deadlines_come_in_their_own_order() {
        let mut book = book(10, ClassLimits::default());
        let both = Deadlines { queue: Deadline::After(3 * SECOND), ..total(20) };
        for job in [job(1, 0, total(9)), job(2, 1, both), job(3, 2, Deadlines::default())] {
            book.add(&job);
        }
        assert_eq!(book.due(), Some(at(4)));
        assert!(book.take_due(at(3)).sequences.is_empty());
        assert_eq!(book.take_due(at(9)).sequences, [1, 2].into());
        assert_eq!(book.due(), Some(at(21)), "the total deadline of the second");
    }

    #[test]
    fn invalid_deadline_is_looked_at_at_once() {
        let mut book = book(10, ClassLimits::default());
        let failure = Deadlines::read([(rbee_schema::DEADLINE, "soon")]).expect_err("no duration");
        book.add(&StoredJob { deadlines: Err(failure.clone()), ..job(7, 5, Deadlines::default()) });
        assert_eq!(book.take_due(at(5)).sequences, [7].into());
        assert_eq!(
            verdict(Duration::ZERO, TimeLimits::default(), &Err(failure.clone())),
            Some(Verdict::Invalid(failure))
        );
    }

    #[test]
    fn one_sweep_covers_all_jobs_of_a_class() {
        let mut book = book(10, queue_limit(30));
        for sequence in 1..1000 {
            book.add(&job(sequence, sequence, Deadlines::default()));
        }
        book.add(&StoredJob { class: JobClass::Batch, ..job(1000, 0, Deadlines::default()) });
        assert_eq!((book.due(), book.entries.len()), (Some(at(31)), 0));
        let check = book.take_due(at(40));
        let sweep = SweepCheck { class: JobClass::Interactive, limit: 30 * SECOND, from: 1 };
        assert_eq!(check.sweeps, [sweep]);
        // A job is stored while the sweep is under way.
        book.add(&job(1001, 1001, Deadlines::default()));
        book.swept(Swept { sweep: SweepCheck { from: 11, ..sweep }, next_stored: Some(at(11)) });
        assert_eq!(book.due(), Some(at(41)));
        assert_eq!(book.take_due(at(41)).sweeps, [SweepCheck { from: 11, ..sweep }]);
        book.add(&job(1002, 1002, Deadlines::default()));
        book.swept(Swept { sweep: SweepCheck { from: 1001, ..sweep }, next_stored: None });
        assert_eq!(book.due(), Some(at(1032)), "the job that was stored meanwhile is waited for");
    }

    #[test]
    fn full_book_reads_the_queue_again_in_time() {
        let mut book = book(2, ClassLimits::default());
        for (sequence, deadline) in [(1, 50), (2, 10), (3, 30), (4, 20)] {
            book.add(&job(sequence, 0, total(deadline)));
        }
        assert_eq!(book.take_due(at(25)).sequences, [2, 4].into());
        assert_eq!(book.due(), Some(at(30)), "the earliest of those without room");
        let check = book.take_due(at(30));
        assert_eq!((check.unread, check.sequences), (Some(1), BTreeSet::new()));
        book.read_to(Some(3));
        assert_eq!(book.take_due(at(30)).unread, Some(3), "the rest of the queue is read next");
    }

    #[test]
    fn verdict_depends_on_whether_a_job_was_started() {
        let limits = TimeLimits { total: Some(9 * SECOND), queue: Some(5 * SECOND) };
        let (queue, total) = (Missed::Queue(5 * SECOND), Missed::Total(9 * SECOND));
        for (age, expected) in [(4, None), (5, Some((queue, None))), (9, Some((queue, Some(total))))] {
            let expected = expected.map(|(waiting, started)| Verdict::Expired { waiting, started });
            assert_eq!(verdict(age * SECOND, limits, &Ok(Deadlines::default())), expected, "{age}");
        }
        let none = Deadlines { queue: Deadline::None, total: Deadline::None };
        assert_eq!(verdict(999 * SECOND, limits, &Ok(none)), None);
    }

    proptest! {
        /// However small the book is, each deadline is looked at, and none too early.
        #[test]
        fn no_deadline_is_forgotten(deadlines in prop::collection::vec(1u64..50, 1..40), most in 1usize..8) {
            let mut book = book(most, ClassLimits::default());
            let jobs: Vec<StoredJob> = (1..).zip(&deadlines).map(|(at, limit)| job(at, 0, total(*limit))).collect();
            jobs.iter().for_each(|job| book.add(job));
            let mut seen = vec![None; jobs.len()];
            for _ in 0..10_000 {
                let Some(due) = book.due() else { break };
                let check = book.take_due(due.max(at(0)));
                for sequence in check.sequences {
                    let index = usize::try_from(sequence - 1).expect("small");
                    seen[index].get_or_insert(due);
                }
                if check.unread.is_some() {
                    // Jobs that were answered have left the queue.
                    jobs.iter().zip(&seen).filter(|(_, seen)| seen.is_none()).for_each(|(job, _)| book.add(job));
                    book.read_to(None);
                }
            }
            for (seen, limit) in seen.iter().zip(&deadlines) {
                prop_assert_eq!(*seen, Some(at(*limit)));
            }
        }
    }
}
