//! The jobs that wait for a model, and how fast its workers answer: what more workers would help.
//!
//! Waiting jobs are counted by their notices and by the heartbeats that name the jobs which run. Notices may be lost, and
//! jobs may go otherwise; the count is set right whenever the queue itself is looked at.

use std::time::{Duration, Instant};

/// The part of a new measurement in the mean: the last ten or so count.
const WEIGHT: f64 = 0.2;

/// The jobs of one model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Queue {
    waiting: u64,
    since: Option<Instant>,
    answer: Mean,
    start: Mean,
}

/// A mean of durations in which later ones weigh more.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Mean(Option<f64>);

impl Mean {
    fn add(&mut self, measured: Duration) {
        let measured = measured.as_secs_f64();
        self.0 = Some(self.0.map_or(measured, |mean| mean + WEIGHT * (measured - mean)));
    }

    fn get(self) -> Option<Duration> {
        self.0.map(Duration::from_secs_f64)
    }
}

impl Queue {
    /// How many jobs wait.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Since when jobs have waited without a break.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// How long an answer takes from the moment on which a worker takes the job.
    pub fn answer(&self) -> Option<Duration> {
        self.answer.get()
    }

    /// How long a worker takes from the order to the moment on which it takes jobs.
    pub fn start(&self) -> Option<Duration> {
        self.start.get()
    }

    /// So many jobs wait.
    pub fn counted(&mut self, waiting: u64, now: Instant) {
        self.waiting = waiting;
        self.since = (waiting > 0).then(|| self.since.unwrap_or(now));
    }

    /// One more job waits.
    pub fn queued(&mut self, now: Instant) {
        self.counted(self.waiting + 1, now);
    }

    /// So many jobs were taken.
    pub fn taken(&mut self, jobs: u64, now: Instant) {
        self.counted(self.waiting.saturating_sub(jobs), now);
    }

    /// A job was answered in this time.
    pub fn answered(&mut self, took: Duration) {
        self.answer.add(took);
    }

    /// A worker was ready this long after it was ordered.
    pub fn started(&mut self, took: Duration) {
        self.start.add(took);
    }

    /// How long the last of the waiting jobs is expected to wait with so many slots. Where no answer was seen yet, it is
    /// how long the first has waited already.
    pub fn expected_wait(&self, slots: u64, now: Instant) -> Duration {
        match (self.answer(), self.since) {
            (_, None) => Duration::ZERO,
            (Some(answer), Some(_)) => answer.mul_f64(self.waiting as f64 / slots.max(1) as f64),
            (None, Some(since)) => now.saturating_duration_since(since),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn jobs_are_counted_as_they_come_and_go_and_set_right() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.queued(now);
        queue.queued(now + SECOND);
        assert_eq!((queue.waiting(), queue.since()), (2, Some(now)));
        queue.taken(3, now + SECOND);
        assert_eq!((queue.waiting(), queue.since()), (0, None), "a notice was lost");
        queue.counted(7, now + SECOND);
        assert_eq!((queue.waiting(), queue.since()), (7, Some(now + SECOND)));
    }

    #[test]
    fn the_wait_follows_from_how_long_answers_took_and_without_one_from_what_was_waited() {
        let now = Instant::now();
        let mut queue = Queue::default();
        assert_eq!(queue.expected_wait(2, now), Duration::ZERO);
        queue.counted(10, now);
        assert_eq!(queue.expected_wait(2, now + SECOND), SECOND);
        queue.answered(2 * SECOND);
        assert_eq!(queue.expected_wait(2, now + SECOND), 10 * SECOND);
        assert_eq!(queue.expected_wait(4, now + SECOND), 5 * SECOND);
    }

    #[test]
    fn a_mean_follows_what_is_measured() {
        let mut queue = Queue::default();
        queue.started(SECOND);
        assert_eq!(queue.start(), Some(SECOND));
        for _ in 0..50 {
            queue.started(3 * SECOND);
        }
        assert!(queue.start().is_some_and(|mean| mean > 2 * SECOND + SECOND / 2));
    }
}
