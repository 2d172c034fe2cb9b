//! Deadlines of jobs that no worker runs: the leading queen answers these jobs. A worker watches the deadlines of those that it
//! runs.
//!
//! The queen learns of deadlines by the notices of stored jobs. When it begins to lead, and when it may have missed notices, it
//! reads the queue once. One timer stands for the earliest deadline (see [`crate::decide::deadlines`]).

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use rbee_nats::{Answered, Begun, Bus, Message, QueuedDeadlines, QueuedJob};
use rbee_schema::{Failure, Missed};
use tracing::warn;

use super::{
    Controller, Report,
    deadline_watch::{Found, Looked, look},
    refusals::answer,
    state::{Expired, Reason, Unanswered},
};
use crate::{
    decide::deadlines::{StoredJob, Verdict, verdict},
    metrics,
};

/// Shortest time between two looks at the queue, so that many deadlines in a row cost a few dozen requests per second. Nobody
/// notices such a delay.
const SPACING: Duration = Duration::from_millis(20);

/// Pause after a look that failed: the stream is missing or has no leader, which takes seconds.
const RETRY: Duration = Duration::from_secs(1);

/// Number of jobs that are answered at a time: enough to hide the round trip to the server.
const WINDOW: usize = 64;

impl Controller {
    /// Begins to watch deadlines, or begins anew because notices may have been missed. If this queen leads.
    pub(super) fn watch_deadlines(&mut self) {
        if let (true, Some(reading)) = (self.leads(), self.deadlines.clock.latest()) {
            self.deadlines.restart(reading.limits);
        }
    }

    /// Ends watching: another queen leads.
    pub(super) fn leave_deadlines(&mut self) {
        self.deadlines.edition += 1;
        self.deadlines.book.clear();
    }

    /// The clock of the server was read, and with it the limits of jobs that state no deadlines.
    pub(super) fn handle_clock_reading(&mut self) {
        let Some(reading) = self.deadlines.clock.latest() else { return };
        if self.deadlines.book.limits() != Some(reading.limits) {
            self.watch_deadlines();
        }
    }

    /// A job was queued.
    pub(super) fn note_deadlines(&mut self, message: &Message) {
        if self.deadlines.book.limits().is_none() {
            return;
        }
        if let Some(QueuedDeadlines { sequence, class, stored, deadlines }) = self.bus.queued_deadlines(message) {
            self.deadlines.book.add(&StoredJob { sequence, class, stored, deadlines });
        }
    }

    /// Looks at the jobs of which a deadline may have come.
    pub(super) fn look_at_deadlines(&mut self) {
        let Some(reading) = self.deadlines.clock.latest() else { return };
        let time = reading.server_time(Instant::now());
        let check = self.deadlines.book.take_due(time);
        self.deadlines.is_running = true;
        self.deadlines.paused_until = Instant::now() + SPACING;
        let (bus, edition) = (self.bus.clone(), self.deadlines.edition);
        self.tasks.spawn(async move { Report::Looked(Looked { edition, found: look(&bus, check, time).await }) });
    }

    /// The queue was looked at. Jobs whose deadline has come are answered, unless a worker runs them.
    pub(super) fn handle_looked(&mut self, Looked { edition, found }: Looked) {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                warn!(%error, "the deadlines of jobs could not be checked; trying again");
                return self.expired(Expired { has_failed: true, was_look: true, ..Expired::default() });
            }
        };
        let Found { jobs, read, unread, swept } = found;
        if edition == self.deadlines.edition {
            read.iter().for_each(|job| self.deadlines.book.add(job));
            self.deadlines.book.read_to(unread);
            swept.into_iter().for_each(|swept| self.deadlines.book.swept(swept));
        }
        let overdue = self.overdue(jobs.into_values());
        if overdue.is_empty() {
            return self.expired(Expired { was_look: true, ..Expired::default() });
        }
        let bus = self.bus.clone();
        self.tasks.spawn(async move { Report::Expired(answer_all(&bus, overdue).await) });
    }

    /// The jobs that are to be answered. Those that a worker runs are remembered: it may end before it has answered them.
    fn overdue(&mut self, jobs: impl Iterator<Item = QueuedJob>) -> Vec<Overdue> {
        let (Some(reading), Some(limits)) = (self.deadlines.clock.latest(), self.deadlines.book.limits()) else {
            return Vec::new();
        };
        let (now, mut overdue) = (Instant::now(), Vec::new());
        for job in jobs {
            let Some(class) = job.class.filter(|_| job.misnamed.is_none()) else { continue };
            let (failure, started) = match verdict(reading.age(job.stored, now), limits.of(class), &job.deadlines) {
                Some(Verdict::Invalid(failure)) => (failure, None),
                Some(Verdict::Expired { waiting, started }) => (waiting.failure(), started),
                None => continue,
            };
            if job.model.as_ref().is_some_and(|model| self.fleet.runs(model, &job.tenant, &job.job)) {
                let key = (job.tenant.clone(), job.job.clone());
                let running = Unanswered { queued: job, reason: Reason::Expired(started), failure };
                self.refusals.begun.insert(key, running);
            } else {
                overdue.push(Overdue { job, failure, started });
            }
        }
        overdue
    }

    /// Jobs whose deadline has come were answered.
    pub(super) fn expired(&mut self, Expired { left, begun, has_failed, was_look }: Expired) {
        if was_look {
            self.deadlines.is_running = false;
        }
        if has_failed {
            self.watch_deadlines();
            self.deadlines.paused_until = Instant::now() + RETRY;
        }
        for model in left {
            metrics::deadline_missed();
            self.fleet.job_left(&model, Instant::now());
            if self.fleet.waiting(&model) == 0 {
                // The number may be wrong by a notice that was lost.
                self.count_queue();
            }
        }
        if !begun.is_empty() {
            let begun = begun.into_iter().map(|job| ((job.queued.tenant.clone(), job.queued.job.clone()), job));
            self.refusals.begun.extend(begun);
            self.answer_begun(None);
        }
    }
}

/// Job whose deadline has come, and that no worker runs.
struct Overdue {
    job: QueuedJob,
    /// Failure that answers the job, if no worker has begun it.
    failure: Failure,
    /// The deadline that it has missed if a worker has begun it.
    started: Option<Missed>,
}

async fn answer_all(bus: &Bus, overdue: Vec<Overdue>) -> Expired {
    let answers = stream::iter(overdue).map(|overdue| async {
        let answered = answer(bus, &overdue.job, &overdue.failure, Begun::Leave).await;
        (overdue, answered)
    });
    let mut answers = answers.buffer_unordered(WINDOW);
    let mut expired = Expired { was_look: true, ..Expired::default() };
    while let Some((Overdue { job, failure, started }, answered)) = answers.next().await {
        match answered {
            Ok(Answered::Yes) => expired.left.extend(job.model),
            // The queue deadline is met by a job that was begun.
            Ok(Answered::Begun) if started.is_none() => {}
            Ok(Answered::Begun) => {
                expired.begun.push(Unanswered { queued: job, reason: Reason::Expired(started), failure });
            }
            Err(_) => expired.has_failed = true,
        }
    }
    expired
}
