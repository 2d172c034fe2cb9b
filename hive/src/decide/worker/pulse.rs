//! The signs of life of a worker that takes jobs.

use std::time::Instant;

use crate::decide::{bounds::Bounds, timers::Timers};

/// When it was last heard, and whether it got on with its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pulse {
    heard: Instant,
    /// Steps of its engine, as it last said.
    steps: u64,
    /// When that number last changed, or it had nothing to do.
    moved: Instant,
    /// Failed health checks in a row.
    strikes: u32,
}

/// What silence says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet.
    Fine,
    /// It may be gone.
    Silent,
    /// It beats and makes no step.
    Hangs,
}

impl Pulse {
    /// Heard just now.
    pub(super) fn heard(now: Instant, steps: u64) -> Self {
        Self { heard: now, steps, moved: now, strikes: 0 }
    }

    /// After a heartbeat.
    pub(super) fn beat(self, now: Instant, steps: u64, is_busy: bool) -> Self {
        let moved = if steps != self.steps || !is_busy { now } else { self.moved };
        Self { heard: now, steps, moved, ..self }
    }

    /// After a time in which nobody could be heard.
    pub(super) fn excused(self, now: Instant) -> Self {
        Self { heard: now, moved: now, ..self }
    }

    /// After a health check: the failures in a row, where they are too many.
    pub(super) fn checked(self, well: bool, bounds: &Bounds) -> (Self, Option<u32>) {
        let strikes = if well { 0 } else { self.strikes + 1 };
        (Self { strikes, ..self }, (strikes >= bounds.health_failures).then_some(strikes))
    }

    /// When it is suspect or hangs, unless something is heard before.
    pub(super) fn deadline(&self, is_busy: bool, timers: &Timers) -> Instant {
        let silent = self.heard + timers.suspect;
        if is_busy { silent.min(self.moved + timers.hang) } else { silent }
    }

    /// When it is given up, unless something is heard before.
    pub(super) fn gone_at(&self, timers: &Timers) -> Instant {
        self.heard + timers.silent
    }

    /// What is to be thought of it now.
    pub(super) fn verdict(&self, is_busy: bool, now: Instant, timers: &Timers) -> Verdict {
        if is_busy && now >= self.moved + timers.hang {
            Verdict::Hangs
        } else if now >= self.heard + timers.suspect {
            Verdict::Silent
        } else {
            Verdict::Fine
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_failed_health_checks_are_too_many_can_be_set() {
        let bounds = Bounds { health_failures: 2, ..Bounds::default() };
        let (pulse, end) = Pulse::heard(Instant::now(), 0).checked(false, &bounds);
        assert_eq!(end, None);
        assert_eq!(pulse.checked(false, &bounds).1, Some(2));
        let (well, _) = pulse.checked(true, &bounds);
        assert_eq!(well.checked(false, &bounds).1, None, "in a row");
    }
}
