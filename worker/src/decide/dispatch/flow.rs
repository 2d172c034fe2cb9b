//! Knowledge about one flow: jobs that wait, pulls under way, and how much it was served.

use std::time::{Duration, Instant};

/// Time for which an answer that no job waits is believed. A job that returns to the queue gives no notice to other workers,
/// so a flow is asked again from time to time while other flows have jobs.
const BELIEVED: Duration = Duration::from_secs(1);

/// Pause before a flow is asked again after a pull failed. A consumer that was deleted is made again after it; a server that is
/// electing a leader is not loaded.
const RETRY: Duration = Duration::from_secs(1);

/// Time limit for the reply to a fetch, which the server sends at once. Longer than an election takes.
const LOST: Duration = Duration::from_secs(8);

/// State of one flow.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    /// Jobs believed to wait: counted by notices, corrected by deliveries.
    pub(super) waiting: u64,
    /// Time of the last answer that no job waits.
    asked: Option<Instant>,
    /// Time at which a fetch found that the tenant runs as many jobs as it may.
    full: Option<Instant>,
    /// Fetches under way, and the time of the last one.
    pub(super) fetching: u32,
    fetched: Instant,
    /// Time at which the standing pull was sent; none without one.
    pub(super) standing: Option<Instant>,
    pub(super) running: u32,
    /// Tokens that the flow was served (virtual token counter).
    pub(super) served: u64,
    /// Time of the last notice or delivery.
    pub(super) used: Instant,
    /// Time before which the flow is not asked, because a pull failed.
    retry: Option<Instant>,
}

impl Flow {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            waiting: 0,
            asked: None,
            full: None,
            fetching: 0,
            fetched: now,
            standing: None,
            running: 0,
            served: 0,
            used: now,
            retry: None,
        }
    }

    /// True if jobs of this flow wait or run, or are being fetched.
    pub(super) fn is_active(&self) -> bool {
        self.waiting > 0 || self.running > 0 || self.fetching > 0
    }

    /// True if a fetch may find a job. A standing pull finds the jobs that return to the queue.
    pub(super) fn may_wait(&self, now: Instant) -> bool {
        let unknown = self.standing.is_none() && self.fetching == 0 && self.asked.is_none_or(|at| now >= at + BELIEVED);
        self.has_waiting(now) || (unknown && self.may_be_asked(now))
    }

    /// True if a job is known to wait that no fetch is under way for.
    pub(super) fn has_waiting(&self, now: Instant) -> bool {
        let is_full = self.full.is_some_and(|at| now < at + BELIEVED);
        self.may_be_asked(now) && !is_full && self.waiting > u64::from(self.fetching)
    }

    /// False while the flow is not asked because a pull has failed.
    pub(super) fn may_be_asked(&self, now: Instant) -> bool {
        self.retry.is_none_or(|at| now >= at)
    }

    pub(super) fn begin_fetch(&mut self, now: Instant) {
        self.fetching += 1;
        self.fetched = now;
    }

    /// No job waits.
    pub(super) fn found_empty(&mut self, now: Instant) {
        (self.waiting, self.asked, self.full, self.retry) = (0, Some(now), None, None);
    }

    /// A fetch that began at the time of the last one was kept by the server for as long as `limit`: the tenant runs as many
    /// jobs as it may.
    pub(super) fn was_kept(&self, limit: Duration, now: Instant) -> bool {
        now >= self.fetched + limit
    }

    /// The tenant runs as many jobs as it may. Notices of further jobs change nothing for a while. A standing pull finds the
    /// next job that may run, whichever worker makes room for it.
    pub(super) fn found_full(&mut self, now: Instant) {
        self.found_empty(now);
        self.full = Some(now);
    }

    /// A job of the tenant has ended here, so another one may run.
    pub(super) fn has_room(&mut self) {
        (self.asked, self.full) = (None, None);
    }

    /// A pull failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.retry = Some(now + RETRY);
    }

    /// Time at which something about this flow is due: a retry, or a reply that stays away.
    pub(super) fn due(&self, now: Instant, standing: Duration) -> Option<Instant> {
        let reply = (self.fetching > 0).then(|| self.fetched + LOST);
        let renewal = self.standing.map(|since| since + standing);
        [self.retry.filter(|at| *at > now), reply, renewal].into_iter().flatten().min()
    }

    /// Forgets pulls whose replies stay away. Returns the number of fetches among them.
    pub(super) fn forget_lost(&mut self, now: Instant, standing: Duration) -> u32 {
        if self.standing.is_some_and(|since| now >= since + standing) {
            self.standing = None;
        }
        if self.fetching > 0 && now >= self.fetched + LOST { std::mem::take(&mut self.fetching) } else { 0 }
    }
}
