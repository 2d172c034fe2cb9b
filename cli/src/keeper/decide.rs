//! Whether and when a hive that has ended is started again. Does nothing itself.

use std::time::Duration;

use rbee_hive::decide::timers::Timers;

/// A hive that has run for this long is as good as new.
const STABLE: Duration = Duration::from_secs(60);

/// The pause after the first end. As long as systemd waits by our unit.
const FIRST: Duration = Duration::from_secs(1);

/// The longest pause: the bus may be away for hours.
const MOST: Duration = Duration::from_secs(60);

/// How long a hive with these timers may take to end in order: its workers, those that have to be killed, and its last words.
pub(super) fn patience(timers: &Timers) -> Duration {
    timers.shutdown + timers.kill + 2 * timers.final_flush
}

/// How a run of the hive ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It did not begin.
    NotStarted,
    /// By itself, with this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It said that it stops in order. It was not our child, so that nobody tells its exit code.
    InOrder,
    /// It was not our child either, and said nothing.
    CutShort,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Start it again after this long.
    Restart(Duration),
    /// Another one of its name runs: go on with that one if it is on this machine, else leave it.
    TakeTheOther,
    /// Leave it: somebody has told it to end.
    Leave,
    /// Leave it: its options or its configuration file are wrong.
    GiveUp,
}

/// Ends in a row without a stable run between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct History {
    ends: u32,
}

impl History {
    /// Takes note of an end after a run that took so long, and decides what follows. `draw` is a random number between 0
    /// and 1: many machines whose bus has gone do not come back together.
    pub(super) fn after(&mut self, end: End, ran: Duration, draw: f64) -> Next {
        match end {
            End::Code(0) | End::InOrder => return Next::Leave,
            End::Code(2) => return Next::GiveUp,
            End::Code(75) => return Next::TakeTheOther,
            End::NotStarted | End::Code(_) | End::Signal(_) | End::CutShort => {}
        }
        self.ends = if ran >= STABLE { 1 } else { self.ends.saturating_add(1) };
        let pause = FIRST.saturating_mul(1 << (self.ends - 1).min(16)).min(MOST);
        // A quarter more or less.
        Next::Restart(pause.mul_f64(0.75 + 0.5 * draw.clamp(0.0, 1.0)))
    }

    /// Ends in a row.
    pub(super) fn ends(self) -> u32 {
        self.ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What follows after runs that ended in this way after so many seconds, one after the other.
    fn check(ends: &[(End, u64)], expected: &[Next]) {
        let mut history = History::default();
        let found: Vec<Next> =
            ends.iter().map(|(end, ran)| history.after(*end, Duration::from_secs(*ran), 0.5)).collect();
        assert_eq!(found, expected, "{ends:?}");
    }

    fn restarts(seconds: &[u64]) -> Vec<Next> {
        seconds.iter().map(|seconds| Next::Restart(Duration::from_secs(*seconds))).collect()
    }

    #[test]
    fn what_another_start_would_not_change_is_not_started_again() {
        for ran in [0, 59, 3600] {
            check(&[(End::Code(0), ran)], &[Next::Leave]);
            check(&[(End::InOrder, ran)], &[Next::Leave]);
            check(&[(End::Code(2), ran)], &[Next::GiveUp]);
            check(&[(End::Code(75), ran)], &[Next::TakeTheOther]);
        }
    }

    #[test]
    fn every_other_end_is_followed_by_a_start() {
        for end in [End::NotStarted, End::Code(1), End::Code(69), End::Code(101), End::Signal(9), End::CutShort] {
            check(&[(end, 5)], &restarts(&[1]));
        }
    }

    #[test]
    fn a_hive_that_gives_its_workers_longer_has_longer_itself() {
        assert_eq!(patience(&Timers::default()), Duration::from_secs(45));
        let timers = "shutdown=5m,kill=10s,final_flush=20s".parse().expect("timers");
        assert_eq!(patience(&timers), Duration::from_secs(350));
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        check(&[(End::Signal(9), 0); 9], &restarts(&[1, 2, 4, 8, 16, 32, 60, 60, 60]));
        let mut history = History { ends: u32::MAX };
        assert_eq!(history.after(End::Code(1), Duration::ZERO, 0.5), Next::Restart(MOST));
    }

    #[test]
    fn a_stable_minute_makes_the_next_end_the_first() {
        let signal = |ran| (End::Signal(9), ran);
        check(&[signal(0), signal(59), signal(60), signal(0)], &restarts(&[1, 2, 1, 2]));
    }

    #[test]
    fn hives_that_ended_together_start_apart() {
        let pause = |draw| match History::default().after(End::Signal(9), Duration::ZERO, draw) {
            Next::Restart(pause) => pause.as_millis(),
            other => panic!("{other:?}"),
        };
        assert_eq!((pause(0.0), pause(0.5), pause(1.0)), (750, 1000, 1250));
    }
}
