//! Decides if and when an exited hive is restarted. Pure decisions.

use std::time::Duration;

use rbee_hive::decide::timers::Timers;

/// Run time after which a hive counts as stable, so that its next exit is treated as the first one.
const STABLE: Duration = Duration::from_secs(60);

/// Pause after the first exit, the same as `RestartSec` in the shipped systemd unit.
const FIRST: Duration = Duration::from_secs(1);

/// Longest pause between restarts. The bus may be unreachable for hours, so restarts never stop.
const MOST: Duration = Duration::from_secs(60);

/// Time that a hive with these timers may take to stop cleanly: draining workers, killing the rest, publishing final events.
pub(super) fn stop_timeout(timers: &Timers) -> Duration {
    timers.shutdown + timers.kill + 2 * timers.final_flush
}

/// Cause of the end of a run of the hive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The process could not be started.
    NotStarted,
    /// Exit with this code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
    /// Clean stop of a hive that is not our child, so its exit code is unknown.
    StoppedCleanly,
    /// Unclean end of a hive that is not our child.
    Unknown,
}

/// Reaction to the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Restart after this pause.
    Restart(Duration),
    /// Another hive of the same name is running: watch that one if it is on this machine, else do nothing.
    AdoptOther,
    /// Do nothing: the hive was told to stop.
    StayStopped,
    /// Do nothing: its options or its configuration file are invalid.
    GiveUp,
}

/// Number of consecutive exits without a stable run between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct History {
    ends: u32,
}

impl History {
    /// Records an exit after a run of length `ran`, and decides the reaction. `draw` is a random number between 0 and 1 for
    /// jitter, so that many machines that lost their bus do not restart at the same moment.
    pub(super) fn after(&mut self, end: End, ran: Duration, draw: f64) -> Next {
        match end {
            End::Code(0) | End::StoppedCleanly => return Next::StayStopped,
            End::Code(2) => return Next::GiveUp,
            End::Code(75) => return Next::AdoptOther,
            End::NotStarted | End::Code(_) | End::Signal(_) | End::Unknown => {}
        }
        self.ends = if ran >= STABLE { 1 } else { self.ends.saturating_add(1) };
        let pause = FIRST.saturating_mul(1 << (self.ends - 1).min(16)).min(MOST);
        // Jitter of plus or minus a quarter.
        Next::Restart(pause.mul_f64(0.75 + 0.5 * draw.clamp(0.0, 1.0)))
    }

    /// Number of consecutive exits.
    pub(super) fn ends(self) -> u32 {
        self.ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the reactions to consecutive runs, each given as its end and its length in seconds.
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
    fn final_exits_are_not_restarted() {
        for ran in [0, 59, 3600] {
            check(&[(End::Code(0), ran)], &[Next::StayStopped]);
            check(&[(End::StoppedCleanly, ran)], &[Next::StayStopped]);
            check(&[(End::Code(2), ran)], &[Next::GiveUp]);
            check(&[(End::Code(75), ran)], &[Next::AdoptOther]);
        }
    }

    #[test]
    fn every_other_exit_is_restarted() {
        for end in [End::NotStarted, End::Code(1), End::Code(69), End::Code(101), End::Signal(9), End::Unknown] {
            check(&[(end, 5)], &restarts(&[1]));
        }
    }

    #[test]
    fn stop_timeout_follows_the_timers_of_the_hive() {
        assert_eq!(stop_timeout(&Timers::default()), Duration::from_secs(45));
        let timers = "shutdown=5m,kill=10s,final_flush=20s".parse().expect("timers");
        assert_eq!(stop_timeout(&timers), Duration::from_secs(350));
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        check(&[(End::Signal(9), 0); 9], &restarts(&[1, 2, 4, 8, 16, 32, 60, 60, 60]));
        let mut history = History { ends: u32::MAX };
        assert_eq!(history.after(End::Code(1), Duration::ZERO, 0.5), Next::Restart(MOST));
    }

    #[test]
    fn a_stable_run_resets_the_backoff() {
        let signal = |ran| (End::Signal(9), ran);
        check(&[signal(0), signal(59), signal(60), signal(0)], &restarts(&[1, 2, 1, 2]));
    }

    #[test]
    fn restart_pauses_have_jitter() {
        let pause = |draw| match History::default().after(End::Signal(9), Duration::ZERO, draw) {
            Next::Restart(pause) => pause.as_millis(),
            other => panic!("{other:?}"),
        };
        assert_eq!((pause(0.0), pause(0.5), pause(1.0)), (750, 1000, 1250));
    }
}
