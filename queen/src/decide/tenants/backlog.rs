//! Waiting jobs beyond the limits of their tenants.
//!
//! Notices of stored jobs give an upper bound of the jobs of a tenant. When it is above the tenant's limit, the new job is a
//! candidate, and the queue is counted. A candidate is refused if the count confirms that it is beyond the limit: running jobs,
//! which heartbeats name, do not count. So a lost notice or a job that ended unseen never refuses a job.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use rbee_schema::Tenant;

/// Time that a worker has to take a job and to say so before the job counts as waiting. It takes milliseconds.
const GRACE: Duration = Duration::from_millis(200);

/// Maximum number of tenants whose jobs are counted. Anybody can invent tenants; their jobs beyond it are not refused.
const MOST: usize = 10_000;

/// Maximum number of candidates, which bounds the memory. Further jobs are not refused. A flow cannot have as many jobs by
/// default.
const CANDIDATES: usize = 65_536;

/// Jobs of the tenants that have a limit of waiting jobs.
#[derive(Debug, Default)]
pub(super) struct Backlogs {
    tenants: BTreeMap<Tenant, Backlog>,
    candidates: usize,
}

/// Jobs of one tenant.
#[derive(Debug, Default)]
struct Backlog {
    /// Number of notices.
    stored: u64,
    /// Number of notices when the current count of the queue began.
    stored_before_count: u64,
    /// Waiting and running jobs as of the last count.
    counted: u64,
    /// Number of notices when that count began.
    stored_before_last: u64,
    candidates: VecDeque<Candidate>,
}

/// Job that may be beyond the limit.
#[derive(Debug)]
struct Candidate {
    sequence: u64,
    /// Number of its notice among those of the tenant.
    number: u64,
    at: Instant,
}

/// Result of a count of the queue, for one tenant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    /// Waiting and running jobs in the queue.
    pub(super) depth: u64,
    /// Running jobs.
    pub(super) running: u64,
    /// Limit of waiting jobs; `None` if it was removed.
    pub(super) limit: Option<u32>,
}

impl Backlogs {
    /// A job was stored.
    pub(super) fn stored(&mut self, tenant: &Tenant, sequence: u64, limit: u32, now: Instant) {
        if !self.tenants.contains_key(tenant) && self.tenants.len() >= MOST {
            self.tenants.retain(|_, backlog| backlog.upper_bound() > 0 || !backlog.candidates.is_empty());
            if self.tenants.len() >= MOST {
                return;
            }
        }
        let backlog = self.tenants.entry(tenant.clone()).or_default();
        backlog.stored += 1;
        if backlog.upper_bound() > u64::from(limit) && self.candidates < CANDIDATES {
            backlog.candidates.push_back(Candidate { sequence, number: backlog.stored, at: now });
            self.candidates += 1;
        }
    }

    /// A count of the queue begins.
    pub(super) fn count_begins(&mut self) {
        for backlog in self.tenants.values_mut() {
            backlog.stored_before_count = backlog.stored;
        }
    }

    /// Tenants whose jobs are counted.
    pub(super) fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.keys()
    }

    /// A count that began at `begun` has ended. Returns the sequences of the tenant's jobs to be refused, oldest first.
    pub(super) fn counted(&mut self, tenant: &Tenant, counted: Counted, begun: Instant) -> Vec<u64> {
        let Counted { depth, running, limit } = counted;
        let Some(backlog) = self.tenants.get_mut(tenant) else { return Vec::new() };
        (backlog.counted, backlog.stored_before_last) = (depth, backlog.stored_before_count);
        let before = backlog.candidates.len();
        let mut refused = Vec::new();
        let mut waiting = depth.saturating_sub(running);
        while let Some(candidate) = backlog.candidates.pop_front_if(|candidate| candidate.at + GRACE <= begun) {
            // Those behind it do not count against it.
            let behind = backlog.stored - candidate.number;
            if limit.is_some_and(|limit| waiting.saturating_sub(behind) > u64::from(limit)) {
                refused.push(candidate.sequence);
                waiting -= 1;
            }
        }
        self.candidates -= before - backlog.candidates.len();
        refused
    }

    /// Time from which a count of the queue decides about the oldest candidate.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.candidates == 0 {
            return None;
        }
        self.tenants.values().filter_map(|backlog| backlog.candidates.front()).map(|first| first.at + GRACE).min()
    }

    /// Forgets everything, when this queen stops leading.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Backlog {
    /// Upper bound of the tenant's jobs in the queue: those of the last count, and those stored since it began.
    fn upper_bound(&self) -> u64 {
        self.counted + (self.stored - self.stored_before_last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn acme() -> Tenant {
        "acme".parse().expect("a name")
    }

    fn counted(depth: u64, running: u64, limit: u32) -> Counted {
        Counted { depth, running, limit: Some(limit) }
    }

    /// Stores jobs with the sequences 1 to `jobs`, of which all are in the queue, and counts the queue.
    fn refused(jobs: u64, running: u64, limit: u32) -> Vec<u64> {
        let (mut backlogs, now) = (Backlogs::default(), Instant::now());
        for sequence in 1..=jobs {
            backlogs.stored(&acme(), sequence, limit, now);
        }
        backlogs.count_begins();
        backlogs.counted(&acme(), counted(jobs, running, limit), now + GRACE)
    }

    #[test]
    fn newest_jobs_beyond_the_limit_are_refused() {
        for (jobs, running, limit, expected) in [
            (5, 0, 5, vec![]),
            (6, 0, 5, vec![6]),
            (9, 0, 5, vec![6, 7, 8, 9]),
            (9, 3, 5, vec![9]),
            (9, 4, 5, vec![]),
            (3, 1, 1, vec![3]),
        ] {
            assert_eq!(
                refused(jobs, running, limit),
                expected,
                "{jobs} jobs, {running} of them running, limit {limit}"
            );
        }
    }

    #[test]
    fn job_is_refused_only_after_a_worker_had_time_to_take_it() {
        let (mut backlogs, now) = (Backlogs::default(), Instant::now());
        for sequence in 1..=2 {
            backlogs.stored(&acme(), sequence, 1, now);
        }
        assert_eq!(backlogs.due(), Some(now + GRACE));
        backlogs.count_begins();
        assert_eq!(backlogs.counted(&acme(), counted(2, 0, 1), now), [0; 0]);
        backlogs.count_begins();
        assert_eq!(backlogs.counted(&acme(), counted(2, 0, 1), now + GRACE), [2]);
        assert_eq!(backlogs.due(), None);
    }

    #[test]
    fn notices_that_were_wrong_refuse_nothing() {
        let (mut backlogs, now) = (Backlogs::default(), Instant::now());
        for sequence in 1..=10 {
            backlogs.stored(&acme(), sequence, 3, now);
        }
        backlogs.count_begins();
        // The jobs have ended unseen.
        assert_eq!(backlogs.counted(&acme(), counted(0, 0, 3), now + GRACE), [0; 0]);
        backlogs.stored(&acme(), 11, 3, now + GRACE);
        assert_eq!(backlogs.due(), None, "one job is no candidate");
    }

    #[test]
    fn jobs_from_before_are_counted_and_never_refused() {
        let (mut backlogs, now) = (Backlogs::default(), Instant::now());
        backlogs.stored(&acme(), 101, 5, now);
        backlogs.count_begins();
        assert_eq!(backlogs.counted(&acme(), counted(101, 0, 5), now + GRACE), [0; 0], "it was no candidate");
        backlogs.stored(&acme(), 102, 5, now + GRACE);
        backlogs.count_begins();
        assert_eq!(backlogs.counted(&acme(), counted(102, 0, 5), now + 2 * GRACE), [102]);
    }

    #[test]
    fn limit_that_was_removed_refuses_nothing() {
        let (mut backlogs, now) = (Backlogs::default(), Instant::now());
        for sequence in 1..=5 {
            backlogs.stored(&acme(), sequence, 1, now);
        }
        backlogs.count_begins();
        let counted = Counted { depth: 5, running: 0, limit: None };
        assert_eq!(backlogs.counted(&acme(), counted, now + GRACE), [0; 0]);
        assert_eq!((backlogs.candidates, backlogs.due()), (0, None));
    }

    #[test]
    fn invented_tenants_take_a_bounded_memory() {
        let (mut backlogs, now) = (Backlogs::default(), Instant::now());
        for number in 0..MOST + 10 {
            backlogs.stored(&format!("t{number}").parse().expect("a name"), 1, 1, now);
        }
        assert_eq!(backlogs.tenants.len(), MOST);
        for sequence in 0..CANDIDATES as u64 + 10 {
            backlogs.stored(&"t0".parse().expect("a name"), sequence, 1, now);
        }
        assert_eq!(backlogs.candidates, CANDIDATES);
    }

    proptest! {
        #[test]
        fn as_many_jobs_wait_as_may(jobs in 0_u64..40, running in 0_u64..40, limit in 1_u32..20) {
            let running = running.min(jobs);
            let refused = refused(jobs, running, limit);
            let waiting = jobs - running;
            prop_assert_eq!(refused.len() as u64, waiting.saturating_sub(u64::from(limit)));
            prop_assert!(refused.iter().all(|sequence| *sequence > u64::from(limit)));
        }
    }
}
