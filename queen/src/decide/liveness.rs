//! Presence of a hive, from its heartbeats.
//!
//! ```text
//!  joins ─▶ Online ── 3 s without ──▶ Suspect ── 10 s ─▶ Lost ── 10 min ─▶ removed
//!             ▲       a heartbeat        │                 │
//!             └───────── heartbeat ──────┴─────────────────┘
//! ```
//!
//! A suspect hive gets no further workers, but its workers count: the hive may only be slow. Workers of a lost hive do not
//! count until the hive returns. They may serve all the while, because workers pull jobs from the bus themselves.

use std::time::{Duration, Instant};

use crate::decide::timers::Timers;

/// Presence of a hive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Heartbeats arrive.
    Online,
    /// Heartbeats are missing.
    Suspect,
    /// Heartbeats have been missing for so long that other hives replace its workers.
    Lost,
}

/// Change of presence that time alone makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// The hive became suspect.
    Suspected,
    /// The hive became lost.
    Lost,
    /// The hive is no longer expected to return.
    Removed,
}

/// Time of a hive's last heartbeat, and its presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    last_heartbeat: Instant,
    presence: Presence,
}

impl Liveness {
    /// Liveness of a hive that is seen for the first time.
    pub fn new(now: Instant) -> Self {
        Self { last_heartbeat: now, presence: Presence::Online }
    }

    /// Presence, as of the last input.
    pub fn presence(&self) -> Presence {
        self.presence
    }

    /// Time since the last heartbeat.
    pub fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_heartbeat)
    }

    /// Records a heartbeat. Returns the time without heartbeats if the hive was suspect or lost.
    pub fn heartbeat(&mut self, now: Instant) -> Option<Duration> {
        let silence = self.silence(now);
        let before = std::mem::replace(self, Self::new(now)).presence;
        (before != Presence::Online).then_some(silence)
    }

    /// Restarts the timeout, because the queen could not receive anything until now. No hive returns by that.
    pub fn restart_timeout(&mut self, now: Instant) {
        if self.presence != Presence::Lost {
            self.last_heartbeat = now;
        }
    }

    /// Records that the server reported the end of the hive's connection.
    pub fn disconnected(&mut self) -> Option<Transition> {
        let was_online = self.presence == Presence::Online;
        was_online.then(|| {
            self.presence = Presence::Suspect;
            Transition::Suspected
        })
    }

    /// Applies the deadline that has passed by `now`, if any.
    pub fn advance(&mut self, now: Instant, timers: &Timers) -> Option<Transition> {
        let silence = self.silence(now);
        match self.presence {
            Presence::Online if silence >= timers.suspect => {
                self.presence = Presence::Suspect;
                Some(Transition::Suspected)
            }
            Presence::Suspect if silence >= timers.lost => {
                self.presence = Presence::Lost;
                Some(Transition::Lost)
            }
            Presence::Lost if silence >= timers.removed => Some(Transition::Removed),
            Presence::Online | Presence::Suspect | Presence::Lost => None,
        }
    }

    /// Time of the next transition if no heartbeat arrives.
    pub fn deadline(&self, timers: &Timers) -> Instant {
        self.last_heartbeat
            + match self.presence {
                Presence::Online => timers.suspect,
                Presence::Suspect => timers.lost,
                Presence::Lost => timers.removed,
            }
    }
}

impl Presence {
    /// Name of the presence in the API and in metrics.
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
    fn unresponsive_hive_is_suspect_then_lost_then_removed() {
        let (now, timers) = (Instant::now(), Timers::default());
        let mut hive = Liveness::new(now);
        for (seconds, transition, presence) in [
            (2, None, Presence::Online),
            (3, Some(Transition::Suspected), Presence::Suspect),
            (4, None, Presence::Suspect),
            (10, Some(Transition::Lost), Presence::Lost),
            (599, None, Presence::Lost),
            (600, Some(Transition::Removed), Presence::Lost),
        ] {
            let found = (hive.advance(after(seconds, now), &timers), hive.presence());
            assert_eq!(found, (transition, presence), "{seconds} s");
        }
    }

    #[test]
    fn deadline_is_the_time_of_the_next_transition() {
        let (now, timers) = (Instant::now(), Timers::default());
        let mut hive = Liveness::new(now);
        for transition in [Transition::Suspected, Transition::Lost, Transition::Removed] {
            let deadline = hive.deadline(&timers);
            assert_eq!(hive.advance(deadline - Duration::from_millis(1), &timers), None);
            assert_eq!(hive.advance(deadline, &timers), Some(transition));
        }
    }

    #[test]
    fn heartbeat_makes_a_hive_online_and_returns_the_time_without_one() {
        let (now, timers) = (Instant::now(), Timers::default());
        let mut hive = Liveness::new(now);
        assert_eq!(hive.heartbeat(after(1, now)), None);
        hive.advance(after(5, now), &timers);
        assert_eq!(hive.heartbeat(after(6, now)), Some(Duration::from_secs(5)));
        assert_eq!(hive.presence(), Presence::Online);
    }

    #[test]
    fn time_in_which_the_queen_received_nothing_does_not_count() {
        let (now, timers) = (Instant::now(), Timers::default());
        let mut hive = Liveness::new(now);
        hive.restart_timeout(after(100, now));
        assert_eq!(hive.advance(after(102, now), &timers), None);
        assert_eq!(hive.advance(after(103, now), &timers), Some(Transition::Suspected));
        assert_eq!(hive.advance(after(110, now), &timers), Some(Transition::Lost));
        hive.restart_timeout(after(111, now));
        assert_eq!(hive.presence(), Presence::Lost, "a hive that was lost before does not return by that");
    }

    #[test]
    fn lost_connection_makes_a_hive_suspect_until_a_heartbeat() {
        let now = Instant::now();
        let mut hive = Liveness::new(now);
        assert_eq!((hive.disconnected(), hive.disconnected()), (Some(Transition::Suspected), None));
        assert_eq!(hive.heartbeat(after(1, now)), Some(Duration::from_secs(1)));
        assert_eq!(hive.presence(), Presence::Online);
    }
}
