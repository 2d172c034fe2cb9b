//! Signs of life of a worker that takes jobs.

use std::time::Instant;

use crate::decide::{bounds::Bounds, timers::Timers};

/// Times of the last heartbeat and of the last progress, and the failed health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Liveness {
    last_heartbeat: Instant,
    /// Steps of the engine, from the last heartbeat.
    steps: u64,
    /// Time of the last step, or of the last heartbeat without jobs.
    last_progress: Instant,
    /// Failed health checks in a row.
    strikes: u32,
}

/// Conclusion from the signs of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Alive,
    /// No heartbeat for the time after which a worker is suspect.
    Unresponsive,
    /// Heartbeats, and no step of the engine although there are jobs.
    Hung,
}

impl Liveness {
    /// Signs of life of a worker that has sent a message just now.
    pub(super) fn begin(now: Instant, steps: u64) -> Self {
        Self { last_heartbeat: now, steps, last_progress: now, strikes: 0 }
    }

    /// After a heartbeat.
    pub(super) fn heartbeat(self, now: Instant, steps: u64, is_busy: bool) -> Self {
        let last_progress = if steps != self.steps || !is_busy { now } else { self.last_progress };
        Self { last_heartbeat: now, steps, last_progress, ..self }
    }

    /// After a time in which the hive could receive nothing.
    pub(super) fn excused(self, now: Instant) -> Self {
        Self { last_heartbeat: now, last_progress: now, ..self }
    }

    /// After a health check. Returns the number of failures in a row where they are too many.
    pub(super) fn checked(self, healthy: bool, bounds: &Bounds) -> (Self, Option<u32>) {
        let strikes = if healthy { 0 } else { self.strikes + 1 };
        (Self { strikes, ..self }, (strikes >= bounds.health_failures).then_some(strikes))
    }

    /// Time at which the worker becomes suspect or counts as hung, unless it sends a heartbeat or makes progress before.
    pub(super) fn deadline(&self, is_busy: bool, timers: &Timers) -> Instant {
        let suspect = self.last_heartbeat + timers.suspect;
        if is_busy { suspect.min(self.last_progress + timers.hang) } else { suspect }
    }

    /// Time at which the worker is killed, unless it sends a heartbeat before.
    pub(super) fn lost_at(&self, timers: &Timers) -> Instant {
        self.last_heartbeat + timers.silent
    }

    pub(super) fn verdict(&self, is_busy: bool, now: Instant, timers: &Timers) -> Verdict {
        if is_busy && now >= self.last_progress + timers.hang {
            Verdict::Hung
        } else if now >= self.last_heartbeat + timers.suspect {
            Verdict::Unresponsive
        } else {
            Verdict::Alive
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_of_tolerated_health_failures_is_a_setting() {
        let bounds = Bounds { health_failures: 2, ..Bounds::default() };
        let (liveness, too_many) = Liveness::begin(Instant::now(), 0).checked(false, &bounds);
        assert_eq!(too_many, None);
        assert_eq!(liveness.checked(false, &bounds).1, Some(2));
        let (healthy, _) = liveness.checked(true, &bounds);
        assert_eq!(healthy.checked(false, &bounds).1, None, "only failures in a row count");
    }
}
