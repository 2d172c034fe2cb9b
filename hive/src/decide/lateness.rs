//! Lateness of the hive's own clock: on an overloaded machine, a worker without heartbeats may only be slow.
//!
//! The hive stretches its timeouts by its own lateness, as Lifeguard does for group membership
//! (<https://arxiv.org/abs/1707.00788>). A hive that was frozen itself could receive nothing and concludes nothing.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Interval of the clock's ticks: short against the shortest timeout (3 s), and cheap.
pub const TICK: Duration = Duration::from_millis(100);

/// Time for which a late tick counts: load comes in bursts.
const MEMORY: Duration = Duration::from_secs(10);

/// Largest factor by which timeouts are stretched: a dead worker must be found in the end.
const MOST: u32 = 6;

/// Lateness above which the hive itself stood still. Load alone delays a tick by less.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// Late ticks of the last seconds.
#[derive(Debug, Clone, Default)]
pub struct Lateness {
    last: Option<Instant>,
    late: VecDeque<(Instant, Duration)>,
}

/// Conclusion from a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// The clock runs.
    OnTime,
    /// The hive stood still for so long that missing heartbeats mean nothing.
    StoodStill,
}

impl Lateness {
    /// Notes a tick of the clock at `now`.
    pub fn tick(&mut self, now: Instant) -> Tick {
        let due = self.last.map_or(now, |last| last + TICK);
        let late = now.saturating_duration_since(due);
        self.last = Some(now);
        self.late.retain(|(at, _)| now < *at + MEMORY);
        if late >= TICK {
            self.late.push_back((now, late));
        }
        if late > STOOD_STILL { Tick::StoodStill } else { Tick::OnTime }
    }

    /// Largest lateness of the last seconds.
    pub fn worst(&self) -> Duration {
        self.late.iter().map(|(_, late)| *late).max().unwrap_or_default()
    }

    /// Factor by which timeouts are stretched: 1, and one more for each interval that the latest tick was late.
    pub fn stretch(&self) -> u32 {
        let ticks = u32::try_from(self.worst().as_millis() / TICK.as_millis()).unwrap_or(u32::MAX);
        ticks.saturating_add(1).min(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_stretched_by_the_latest_tick_of_the_last_seconds() {
        let (mut at, mut lateness) = (Instant::now(), Lateness::default());
        lateness.tick(at);
        for (after, stretch, tick) in [
            (100, 1, Tick::OnTime),
            (199, 1, Tick::OnTime),
            (310, 3, Tick::OnTime),
            (100, 3, Tick::OnTime),
            (1_500, 6, Tick::StoodStill),
            (9_000, 6, Tick::StoodStill),
        ] {
            at += Duration::from_millis(after);
            assert_eq!((lateness.tick(at), lateness.stretch()), (tick, stretch));
        }
        for _ in 0..150 {
            at += TICK;
            assert_eq!(lateness.tick(at), Tick::OnTime);
        }
        assert_eq!(lateness.stretch(), 1, "old ticks do not count");
    }
}
