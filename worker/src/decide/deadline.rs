//! Deadlines of a job that this worker has received, on the clock of this machine.

use std::time::{Duration, Instant};

use rbee_schema::{Missed, TimeLimits};

/// A deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Moment of the deadline.
    pub at: Instant,
    /// The deadline as it is reported once it is missed.
    pub missed: Missed,
}

/// Deadlines of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobDeadlines {
    start: Option<Due>,
    answer: Option<Due>,
}

impl JobDeadlines {
    /// Deadlines of a job with these limits that was stored so long before `now`. One that has passed is due now.
    pub fn new(limits: TimeLimits, age: Duration, now: Instant) -> Self {
        let due = |limit: Duration, missed: Missed| Due { at: now + limit.saturating_sub(age), missed };
        let answer = limits.total.map(|limit| due(limit, Missed::Total(limit)));
        let start = match (limits.queue, limits.total) {
            (Some(queue), Some(total)) if queue > total => answer,
            (Some(queue), _) => Some(due(queue, Missed::Queue(queue))),
            (None, _) => answer,
        };
        Self { start, answer }
    }

    /// Deadline that applies to a job now, depending on whether a worker has started it.
    pub fn applying(&self, is_started: bool) -> Option<Due> {
        if is_started { self.answer } else { self.start }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Seconds until the deadline of the start and of the answer, for limits and an age in seconds.
    fn left(queue: Option<u32>, total: Option<u32>, age: u32) -> (Option<u64>, Option<u64>) {
        let now = Instant::now();
        let limits = TimeLimits { total: total.map(|it| it * SECOND), queue: queue.map(|it| it * SECOND) };
        let deadlines = JobDeadlines::new(limits, age * SECOND, now);
        let left = |is_started| deadlines.applying(is_started).map(|due| (due.at - now).as_secs());
        (left(false), left(true))
    }

    #[test]
    fn deadlines_count_from_the_time_at_which_the_job_was_stored() {
        for (queue, total, age, expected) in [
            (None, None, 9, (None, None)),
            (Some(5), None, 2, (Some(3), None)),
            (None, Some(5), 2, (Some(3), Some(3))),
            (Some(2), Some(5), 1, (Some(1), Some(4))),
            (Some(9), Some(5), 1, (Some(4), Some(4))),
            (Some(2), Some(5), 7, (Some(0), Some(0))),
        ] {
            assert_eq!(left(queue, total, age), expected, "{queue:?} {total:?} {age}");
        }
    }

    #[test]
    fn failure_names_the_deadline_that_comes_first() {
        let deadlines = |queue, total| {
            let limits = TimeLimits { total: Some(total * SECOND), queue: Some(queue * SECOND) };
            JobDeadlines::new(limits, Duration::ZERO, Instant::now()).applying(false).map(|due| due.missed)
        };
        assert_eq!(deadlines(2, 5), Some(Missed::Queue(2 * SECOND)));
        assert_eq!(deadlines(5, 2), Some(Missed::Total(2 * SECOND)));
    }
}
