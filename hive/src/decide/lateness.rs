//! How late the hive's own clock ticks: on an overloaded machine a silent worker may only be a slow one.
//!
//! The hive stretches what it waits for by its own lateness, as Lifeguard does for group membership
//! (<https://arxiv.org/abs/1707.00788>). A hive that was frozen itself has heard nothing and concludes nothing.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How often the clock is to tick.
pub const TICK: Duration = Duration::from_millis(100);

/// Lateness counts for this long: load comes in bursts.
const MEMORY: Duration = Duration::from_secs(10);

/// Waits are stretched to at most this many times their length: a dead worker must be found in the end.
const MOST: u32 = 6;

/// A tick that is later than this was missed because the hive itself stood still.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// The latest ticks that were late.
#[derive(Debug, Clone, Default)]
pub struct Lateness {
    last: Option<Instant>,
    late: VecDeque<(Instant, Duration)>,
}

/// What a tick says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// The machine goes on.
    Fine,
    /// The hive stood still for so long that silence meanwhile means nothing.
    StoodStill,
}

impl Lateness {
    /// The clock ticks.
    pub fn tick(&mut self, now: Instant) -> Tick {
        let due = self.last.map_or(now, |last| last + TICK);
        let late = now.saturating_duration_since(due);
        self.last = Some(now);
        self.late.retain(|(at, _)| now < *at + MEMORY);
        if late >= TICK {
            self.late.push_back((now, late));
        }
        if late > STOOD_STILL { Tick::StoodStill } else { Tick::Fine }
    }

    /// The worst lateness of the last seconds.
    pub fn worst(&self) -> Duration {
        self.late.iter().map(|(_, late)| *late).max().unwrap_or_default()
    }

    /// By how much waits are to be stretched: once for each tick that the worst one was late.
    pub fn stretch(&self) -> u32 {
        let ticks = u32::try_from(self.worst().as_millis() / TICK.as_millis()).unwrap_or(u32::MAX);
        ticks.saturating_add(1).min(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_stretched_by_the_worst_tick_of_the_last_seconds() {
        let (start, mut lateness) = (Instant::now(), Lateness::default());
        let mut at = start;
        for (after, stretch, tick) in [
            (100, 1, Tick::Fine),
            (199, 1, Tick::Fine),
            (310, 3, Tick::Fine),
            (100, 3, Tick::Fine),
            (1_500, 6, Tick::StoodStill),
            (9_000, 6, Tick::StoodStill),
        ] {
            at += Duration::from_millis(after);
            assert_eq!((lateness.tick(at), lateness.stretch()), (if at == start { Tick::Fine } else { tick }, stretch));
        }
        for _ in 0..150 {
            at += TICK;
            assert_eq!(lateness.tick(at), Tick::Fine);
        }
        assert_eq!(lateness.stretch(), 1, "what is long ago does not count");
    }
}
