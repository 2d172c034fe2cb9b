//! Whether a hive is there, by its heartbeats.
//!
//! ```text
//!  joins ─▶ Online ── silent 3 s ─▶ Suspect ── 10 s ─▶ Lost ── 10 min ─▶ removed
//!             ▲                        │                 │
//!             └────── heard again ─────┴─────────────────┘
//! ```
//!
//! A suspect hive gets no further workers, and those that it has count: nobody knows yet whether it is only slow. Those of
//! a lost one do not count until it returns. Its workers may serve on all the while: they pull from the bus themselves.

use std::time::{Duration, Instant};

use crate::decide::timers::Timers;

/// Where a hive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is heard.
    Online,
    /// It is silent.
    Suspect,
    /// It has been silent for so long that others replace it.
    Lost,
}

/// What time alone has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It became suspect.
    Suspected,
    /// It became lost.
    Lost,
    /// Nothing is expected of it any more.
    Removed,
}

/// When a hive was heard, and where that leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    heard: Instant,
    presence: Presence,
}

impl Liveness {
    /// A hive that is heard for the first time.
    pub fn new(now: Instant) -> Self {
        Self { heard: now, presence: Presence::Online }
    }

    /// Where it is.
    pub fn presence(&self) -> Presence {
        self.presence
    }

    /// For how long it has been silent.
    pub fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    /// It is heard. Returns for how long it was not, where it had been given up.
    pub fn hear(&mut self, now: Instant) -> Option<Duration> {
        let silence = self.silence(now);
        let before = std::mem::replace(self, Self::new(now)).presence;
        (before != Presence::Online).then_some(silence)
    }

    /// The queen herself could hear nothing until now: silence before means nothing, and nobody comes back by that.
    pub fn excuse(&mut self, now: Instant) {
        if self.presence != Presence::Lost {
            self.heard = now;
        }
    }

    /// The server says that its connection is gone.
    pub fn disconnected(&mut self) -> Option<Turn> {
        let was_online = self.presence == Presence::Online;
        was_online.then(|| {
            self.presence = Presence::Suspect;
            Turn::Suspected
        })
    }

    /// What has become of it by now.
    pub fn pass(&mut self, now: Instant, timers: &Timers) -> Option<Turn> {
        let silence = self.silence(now);
        match self.presence {
            Presence::Online if silence >= timers.suspect => {
                self.presence = Presence::Suspect;
                Some(Turn::Suspected)
            }
            Presence::Suspect if silence >= timers.lost => {
                self.presence = Presence::Lost;
                Some(Turn::Lost)
            }
            Presence::Lost if silence >= timers.removed => Some(Turn::Removed),
            Presence::Online | Presence::Suspect | Presence::Lost => None,
        }
    }

    /// When [`Liveness::pass`] may have another answer although nothing is heard.
    pub fn deadline(&self, timers: &Timers) -> Instant {
        self.heard
            + match self.presence {
                Presence::Online => timers.suspect,
                Presence::Suspect => timers.lost,
                Presence::Lost => timers.removed,
            }
    }
}

impl Presence {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Suspect => "suspect",
            Self::Lost => "lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: u64, from: Instant) -> Instant {
        from + Duration::from_secs(seconds)
    }

    #[test]
    fn a_silent_hive_is_suspect_then_lost_then_removed() {
        let (now, timers) = (Instant::now(), Timers::default());
        let mut hive = Liveness::new(now);
        for (seconds, turn, presence) in [
            (2, None, Presence::Online),
            (3, Some(Turn::Suspected), Presence::Suspect),
            (4, None, Presence::Suspect),
            (10, Some(Turn::Lost), Presence::Lost),
            (599, None, Presence::Lost),
            (600, Some(Turn::Removed), Presence::Lost),
        ] {
            assert_eq!((hive.pass(after(seconds, now), &timers), hive.presence()), (turn, presence), "{seconds} s");
        }
    }

    #[test]
    fn its_deadline_is_when_something_becomes_of_it() {
        let (now, timers) = (Instant::now(), Timers::default());
        let mut hive = Liveness::new(now);
        for turn in [Turn::Suspected, Turn::Lost, Turn::Removed] {
            let deadline = hive.deadline(&timers);
            assert_eq!(hive.pass(deadline - Duration::from_millis(1), &timers), None);
            assert_eq!(hive.pass(deadline, &timers), Some(turn));
        }
    }

    #[test]
    fn a_hive_that_is_heard_is_online_and_says_for_how_long_it_was_away() {
        let (now, timers) = (Instant::now(), Timers::default());
        let mut hive = Liveness::new(now);
        assert_eq!(hive.hear(after(1, now)), None);
        hive.pass(after(5, now), &timers);
        assert_eq!(hive.hear(after(6, now)), Some(Duration::from_secs(5)));
        assert_eq!(hive.presence(), Presence::Online);
    }

    #[test]
    fn silence_that_the_queen_caused_herself_does_not_count() {
        let (now, timers) = (Instant::now(), Timers::default());
        let mut hive = Liveness::new(now);
        hive.excuse(after(100, now));
        assert_eq!(hive.pass(after(102, now), &timers), None);
        hive.pass(after(103, now), &timers);
        hive.pass(after(110, now), &timers);
        hive.excuse(after(111, now));
        assert_eq!(hive.presence(), Presence::Lost, "who was lost before is not back by that");
    }

    #[test]
    fn a_lost_connection_makes_it_suspect_at_once_and_a_beat_mends_that() {
        let now = Instant::now();
        let mut hive = Liveness::new(now);
        assert_eq!((hive.disconnected(), hive.disconnected()), (Some(Turn::Suspected), None));
        assert!(hive.hear(after(1, now)).is_some());
    }
}
