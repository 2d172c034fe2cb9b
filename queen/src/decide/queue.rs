//! Queue of one model: jobs that wait, and the mean times from which their wait follows.
//!
//! Waiting jobs are counted from notices of new jobs and from heartbeats that name running ones. A notice may be lost, and a
//! job may leave the queue without a heartbeat that names it; each count of the real queue corrects that.

use std::time::{Duration, Instant};

/// Weight of a new measurement in the mean. At 0.2, about the last ten measurements matter.
const WEIGHT: f64 = 0.2;

/// Queue of one model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Queue {
    waiting: u64,
    waiting_since: Option<Instant>,
    last_queued: Option<Instant>,
    answer_time: Mean,
    start_time: Mean,
}

/// Exponentially weighted mean of durations, in seconds.
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
    /// Number of jobs that wait.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Start of the time during which at least one job has waited.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
    }

    /// Time at which the last job was queued.
    pub fn last_queued(&self) -> Option<Instant> {
        self.last_queued
    }

    /// Mean time from a worker's taking a job to the end of the answer.
    pub fn answer_time(&self) -> Option<Duration> {
        self.answer_time.get()
    }

    /// Mean time from a spawn command to the worker's being ready.
    pub fn start_time(&self) -> Option<Duration> {
        self.start_time.get()
    }

    /// Sets the number of jobs that wait.
    pub fn set_waiting(&mut self, waiting: u64, now: Instant) {
        self.waiting = waiting;
        self.waiting_since = (waiting > 0).then(|| self.waiting_since.unwrap_or(now));
    }

    /// Adds one job that waits.
    pub fn job_queued(&mut self, now: Instant) {
        self.last_queued = Some(now);
        self.set_waiting(self.waiting + 1, now);
    }

    /// Removes jobs that workers have taken.
    pub fn jobs_taken(&mut self, jobs: u64, now: Instant) {
        self.set_waiting(self.waiting.saturating_sub(jobs), now);
    }

    /// Records the time that an answer took.
    pub fn record_answer(&mut self, took: Duration) {
        self.answer_time.add(took);
    }

    /// Records the time that a worker took to start.
    pub fn record_start(&mut self, took: Duration) {
        self.start_time.add(took);
    }

    /// Expected wait of the last waiting job with this number of slots. Before the first answer was measured: the time that
    /// the first job has waited so far.
    pub fn expected_wait(&self, slots: u64, now: Instant) -> Duration {
        match (self.answer_time(), self.waiting_since) {
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
    fn waiting_jobs_are_counted_and_corrected() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.job_queued(now);
        queue.job_queued(now + SECOND);
        assert_eq!((queue.waiting(), queue.waiting_since()), (2, Some(now)));
        queue.jobs_taken(3, now + SECOND);
        assert_eq!((queue.waiting(), queue.waiting_since()), (0, None), "a notice was lost");
        queue.set_waiting(7, now + SECOND);
        assert_eq!((queue.waiting(), queue.waiting_since()), (7, Some(now + SECOND)));
    }

    #[test]
    fn expected_wait_follows_from_the_mean_answer_time() {
        let now = Instant::now();
        let mut queue = Queue::default();
        assert_eq!(queue.expected_wait(2, now), Duration::ZERO);
        queue.set_waiting(10, now);
        assert_eq!(queue.expected_wait(2, now + SECOND), SECOND, "no answer was measured yet");
        queue.record_answer(2 * SECOND);
        assert_eq!(queue.expected_wait(2, now + SECOND), 10 * SECOND);
        assert_eq!(queue.expected_wait(4, now + SECOND), 5 * SECOND);
    }

    #[test]
    fn mean_follows_the_measurements() {
        let mut queue = Queue::default();
        queue.record_start(SECOND);
        assert_eq!(queue.start_time(), Some(SECOND));
        for _ in 0..50 {
            queue.record_start(3 * SECOND);
        }
        assert!(queue.start_time().is_some_and(|mean| mean > 2 * SECOND + SECOND / 2));
    }
}
