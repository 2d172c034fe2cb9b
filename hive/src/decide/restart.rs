//! Restart policy: backoff after an exit, crash loops, and exits that are final.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rbee_schema::{ByteSize, ExitClass, Failure, FailureCode};

use crate::decide::{bounds::Bounds, rules::Rules, timers::Timers};

/// Decision after an unexpected exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterExit {
    /// Restart the worker.
    Restart {
        /// Pause before the restart.
        delay: Duration,
        /// Reason, for people.
        why: String,
    },
    /// The worker is in a crash loop: retry after a long pause.
    CrashLoop {
        /// Pause before the retry.
        trial: Duration,
        /// Failure to publish.
        failure: Failure,
    },
    /// Do not start the worker again.
    GiveUp(Failure),
}

/// An exit, as far as the restart policy needs it.
#[derive(Debug, Clone)]
pub struct Exit<'a> {
    /// Class of the exit.
    pub class: ExitClass,
    /// Time for which the worker was ready; zero where it never was.
    pub ready_for: Duration,
    /// Memory limit of the worker.
    pub memory: Option<ByteSize>,
    /// True if a single job is to blame for the exit.
    pub is_of_one_job: bool,
    /// Last lines of its output.
    pub tail: &'a [String],
    /// A random number from 0 to 1: workers that exited together must not start together.
    pub draw: f64,
}

/// Exits of one worker, as far as they count for its next restart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// Exits in a row without a stable run between them.
    exits: u32,
    /// Times of the last of them.
    recent: VecDeque<Instant>,
    /// Out-of-memory exits in a row.
    ooms: u32,
    /// Retries since the crash loop was found.
    trials: u32,
    /// Exits in a row for which a single job was to blame and which therefore did not count. A job that ends normally begins
    /// a new row.
    excused: u32,
    /// Last pause before a start.
    pause: Duration,
}

impl History {
    /// History of a worker of an earlier run of the hive.
    pub fn of(exits: u32) -> Self {
        Self { exits, ..Self::default() }
    }

    /// Exits in a row without a stable run between them.
    pub fn exits(&self) -> u32 {
        self.exits
    }

    /// Notes that a job has ended normally: the worker itself works.
    pub fn job_ended(&mut self) {
        self.excused = 0;
    }

    /// Notes an exit and decides what follows.
    pub fn after(&mut self, exit: &Exit<'_>, now: Instant, rules: &Rules) -> AfterExit {
        let Rules { timers, bounds } = rules;
        if exit.ready_for >= timers.stable.max(self.pause * 2) {
            *self = Self::default();
        }
        if exit.is_of_one_job && self.excused < bounds.loop_excused {
            self.excused += 1;
            return self.excuse(exit, timers);
        }
        let class = exit.class;
        self.exits += 1;
        self.recent.retain(|at| now < *at + timers.loop_window);
        self.recent.push_back(now);
        self.ooms = if class == ExitClass::Oom { self.ooms + 1 } else { 0 };
        match class {
            ExitClass::Data | ExitClass::Config | ExitClass::Permission => {
                return AfterExit::GiveUp(final_failure(class, exit.tail));
            }
            ExitClass::Clean
            | ExitClass::Signal
            | ExitClass::Oom
            | ExitClass::ReadyTimeout
            | ExitClass::Hang
            | ExitClass::Unresponsive
            | ExitClass::Other
            | ExitClass::Unknown => {}
        }
        if self.loops(bounds) { self.trial(exit, rules) } else { self.restart(exit, timers) }
    }

    fn loops(&self, bounds: &Bounds) -> bool {
        self.trials > 0 || self.recent.len() >= bounds.loop_exits as usize || self.ooms >= bounds.loop_ooms
    }

    /// Restart after an exit for which a single job is to blame.
    fn excuse(&self, exit: &Exit<'_>, timers: &Timers) -> AfterExit {
        let delay = spread(timers.first_backoff, exit.draw);
        let why =
            format!("the exit ({}) is blamed on the one job that it ran: restarting after {delay:.1?}", exit.class);
        AfterExit::Restart { delay, why }
    }

    fn restart(&mut self, exit: &Exit<'_>, timers: &Timers) -> AfterExit {
        let pause = match self.exits {
            0 | 1 => timers.first_backoff,
            more => timers.backoff.saturating_mul(1 << (more - 2).min(16)).min(timers.backoff_most),
        };
        self.pause = pause;
        let delay = spread(pause, exit.draw);
        let class = exit.class;
        let why = match self.exits {
            0 | 1 => format!("first exit ({class}): restarting after {delay:.1?}"),
            more => format!("exit {more} in a row ({class}): restarting after {delay:.1?}"),
        };
        AfterExit::Restart { delay, why }
    }

    fn trial(&mut self, exit: &Exit<'_>, Rules { timers, bounds }: &Rules) -> AfterExit {
        let trial = timers.trial.saturating_mul(1 << self.trials.min(16)).min(timers.trial_most);
        self.trials += 1;
        self.pause = trial;
        let last = exit.tail.last().map_or("it wrote no output", String::as_str);
        let failure = if self.ooms >= bounds.loop_ooms {
            let limit = exit.memory.map_or("all memory of the machine".to_owned(), |memory| memory.to_string());
            Failure::new(
                FailureCode::OutOfMemory,
                format!(
                    "the worker ran out of memory {} times with the same limit ({limit}): raise the model's --memory, or \
                     lower its --context or --slots",
                    self.ooms
                ),
            )
        } else {
            Failure::new(
                FailureCode::CrashLoop,
                format!(
                    "the worker exited {} times within {:?} (last: {}; its last output: {last})",
                    self.recent.len().max(self.trials as usize),
                    timers.loop_window,
                    exit.class,
                ),
            )
        };
        AfterExit::CrashLoop { trial, failure }
    }
}

/// The pause, at random up to a quarter more or less.
fn spread(pause: Duration, draw: f64) -> Duration {
    pause.mul_f64(0.75 + 0.5 * draw.clamp(0.0, 1.0))
}

/// Failure of a worker that must not be restarted. Such a worker writes its failure as JSON; otherwise its last line is all
/// there is.
fn final_failure(class: ExitClass, tail: &[String]) -> Failure {
    let written = tail.iter().rev().find_map(|line| serde_json::from_str(line).ok());
    written.unwrap_or_else(|| {
        let last = tail.last().map_or("it wrote no output", String::as_str);
        Failure::new(FailureCode::SpawnFailed, format!("the worker cannot run ({class}): {last}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(class: ExitClass, ready_for: u64) -> Exit<'static> {
        Exit {
            class,
            ready_for: Duration::from_secs(ready_for),
            memory: None,
            is_of_one_job: false,
            tail: &[],
            draw: 0.5,
        }
    }

    /// Pauses after exits, each exit the given number of seconds after the one before. Negative pauses are retries of a loop.
    fn pauses(exits: &[(u64, Exit<'_>)]) -> Vec<f64> {
        let (mut history, mut now) = (History::default(), Instant::now());
        let mut pauses = Vec::new();
        for (after, exit) in exits {
            now += Duration::from_secs(*after);
            pauses.push(match history.after(exit, now, &Rules::default()) {
                AfterExit::Restart { delay, .. } => delay.as_secs_f64(),
                AfterExit::CrashLoop { trial, .. } => -trial.as_secs_f64(),
                AfterExit::GiveUp(failure) => panic!("{failure}"),
            });
        }
        pauses
    }

    #[test]
    fn restarts_back_off_from_a_tenth_of_a_second_to_a_minute() {
        let rare = vec![(601, exit(ExitClass::Signal, 0)); 10];
        assert_eq!(pauses(&rare), [0.1, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]);
    }

    #[test]
    fn workers_that_exited_together_restart_apart() {
        let delay = |draw| {
            let exit = Exit { draw, ..exit(ExitClass::Signal, 0) };
            match History::of(1).after(&exit, Instant::now(), &Rules::default()) {
                AfterExit::Restart { delay, .. } => delay.as_millis(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((delay(0.0), delay(0.5), delay(1.0)), (750, 1000, 1250));
    }

    #[test]
    fn five_exits_in_ten_minutes_are_a_crash_loop_with_rarer_retries() {
        let quick = vec![(1, exit(ExitClass::Signal, 0)); 10];
        assert_eq!(pauses(&quick), [0.1, 1.0, 2.0, 4.0, -300.0, -600.0, -1200.0, -2400.0, -3600.0, -3600.0]);
    }

    #[test]
    fn exits_that_are_a_crash_loop_are_a_setting() {
        let loops = |bounds: &str, class, exits: usize| {
            let rules = Rules { bounds: bounds.parse().expect("bounds"), ..Rules::default() };
            let (mut history, now) = (History::default(), Instant::now());
            let ends = (0..exits).map(|_| history.after(&exit(class, 0), now, &rules)).collect::<Vec<_>>();
            ends.iter().position(|end| matches!(end, AfterExit::CrashLoop { .. })).map(|at| at + 1)
        };
        assert_eq!(loops("loop_exits=2", ExitClass::Signal, 3), Some(2));
        assert_eq!(loops("loop_exits=9", ExitClass::Signal, 8), None);
        assert_eq!(loops("loop_ooms=1", ExitClass::Oom, 3), Some(1));
        assert_eq!(loops("loop_ooms=4", ExitClass::Oom, 4), Some(4));
    }

    #[test]
    fn stable_run_makes_the_next_exit_the_first() {
        let signal = |ready_for| (1, exit(ExitClass::Signal, ready_for));
        assert_eq!(pauses(&[signal(0), signal(59), signal(60), signal(0)]), [0.1, 1.0, 0.1, 1.0]);
        // After a long pause, only a run of twice that length is stable.
        let mut looping = vec![signal(0); 5];
        looping.extend([signal(599), signal(1200)]);
        assert_eq!(pauses(&looping)[4..], [-300.0, -600.0, 0.1]);
    }

    #[test]
    fn exits_of_single_jobs_count_only_if_none_ends_normally() {
        let poisoned = || Exit { is_of_one_job: true, ..exit(ExitClass::Oom, 0) };
        let mut history = History::default();
        let mut exits = |count: usize, job_ends: bool| {
            for _ in 0..count {
                history.after(&poisoned(), Instant::now(), &Rules::default());
            }
            if job_ends {
                history.job_ended();
            }
            history.exits()
        };
        assert_eq!((exits(4, true), exits(4, false), exits(1, true), exits(1, false)), (0, 0, 1, 1));
    }

    #[test]
    fn two_out_of_memory_exits_are_a_crash_loop() {
        let oom = |ready_for| (1, exit(ExitClass::Oom, ready_for));
        assert_eq!(pauses(&[oom(0), oom(0)]), [0.1, -300.0]);
        assert_eq!(pauses(&[oom(0), (1, exit(ExitClass::Signal, 0)), oom(0)]), [0.1, 1.0, 2.0]);
        let mut history = History::default();
        let exit = Exit { memory: Some(ByteSize(512 << 20)), ..exit(ExitClass::Oom, 0) };
        history.after(&exit, Instant::now(), &Rules::default());
        let AfterExit::CrashLoop { failure, .. } = history.after(&exit, Instant::now(), &Rules::default()) else {
            panic!("a loop");
        };
        assert!(failure.code == FailureCode::OutOfMemory && failure.message.contains("512 MiB"), "{failure}");
    }

    #[test]
    fn exit_for_bad_data_is_final_and_keeps_the_workers_own_failure() {
        let reported = Failure::new(FailureCode::ModelInvalid, "truncated");
        let tail = ["noise".to_owned(), serde_json::to_string(&reported).expect("serializes")];
        let after = |class, tail: &[String]| {
            let exit = Exit { class, ready_for: Duration::ZERO, memory: None, is_of_one_job: false, tail, draw: 0.0 };
            History::default().after(&exit, Instant::now(), &Rules::default())
        };
        assert_eq!(after(ExitClass::Data, &tail), AfterExit::GiveUp(reported));
        let AfterExit::GiveUp(failure) = after(ExitClass::Config, &["no such option".to_owned()]) else {
            panic!("given up");
        };
        assert!(failure.message.contains("no such option"), "{failure}");
    }
}
