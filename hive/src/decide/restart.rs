//! Whether and when a worker that ended is started again.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rbee_schema::{ByteSize, ExitClass, Failure, FailureCode};

use crate::decide::{bounds::Bounds, rules::Rules, timers::Timers};

/// What is done about an exit that nobody wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterExit {
    /// Start it again.
    Restart {
        /// After this long.
        delay: Duration,
        /// Why, in words.
        why: String,
    },
    /// It loops: try it once more after a long time, and tell so.
    CrashLoop {
        /// After this long.
        trial: Duration,
        /// What happened.
        failure: Failure,
    },
    /// Leave it.
    GiveUp(Failure),
}

/// An exit, as far as it matters here.
#[derive(Debug, Clone)]
pub struct Exit<'a> {
    /// What kind of end it was.
    pub class: ExitClass,
    /// For how long it had taken jobs; zero where it never did.
    pub ready_for: Duration,
    /// Its memory limit.
    pub memory: Option<ByteSize>,
    /// The last lines that it wrote.
    pub tail: &'a [String],
    /// A random number between 0 and 1: many workers that ended together do not start together.
    pub draw: f64,
}

/// What is remembered of the exits of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// Exits in a row without a stable run between them.
    exits: u32,
    /// When the last of them were.
    recent: VecDeque<Instant>,
    /// Ends for want of memory in a row.
    ooms: u32,
    /// Trials since it was found to loop.
    trials: u32,
    /// The last pause before a start.
    pause: Duration,
}

impl History {
    /// The history of a worker that an earlier run of the hive looked after.
    pub fn of(exits: u32) -> Self {
        Self { exits, ..Self::default() }
    }

    /// Exits in a row without a stable run between them.
    pub fn exits(&self) -> u32 {
        self.exits
    }

    /// Takes note of an exit and decides what follows.
    pub fn after(&mut self, exit: &Exit<'_>, now: Instant, rules: &Rules) -> AfterExit {
        let Rules { timers, bounds } = rules;
        if exit.ready_for >= timers.stable.max(self.pause * 2) {
            *self = Self::default();
        }
        let class = exit.class;
        self.exits += 1;
        self.recent.retain(|at| now < *at + timers.loop_window);
        self.recent.push_back(now);
        self.ooms = if class == ExitClass::Oom { self.ooms + 1 } else { 0 };
        match class {
            ExitClass::Data | ExitClass::Config | ExitClass::Permission => {
                return AfterExit::GiveUp(hopeless(class, exit.tail));
            }
            ExitClass::Clean
            | ExitClass::Signal
            | ExitClass::Oom
            | ExitClass::ReadyTimeout
            | ExitClass::Hang
            | ExitClass::Other
            | ExitClass::Unknown => {}
        }
        if self.loops(bounds) { self.trial(exit, rules) } else { self.restart(exit, timers) }
    }

    fn loops(&self, bounds: &Bounds) -> bool {
        self.trials > 0 || self.recent.len() >= bounds.loop_exits as usize || self.ooms >= bounds.loop_ooms
    }

    fn restart(&mut self, exit: &Exit<'_>, timers: &Timers) -> AfterExit {
        let pause = match self.exits {
            0 | 1 => timers.first_backoff,
            more => timers.backoff.saturating_mul(1 << (more - 2).min(16)).min(timers.backoff_most),
        };
        self.pause = pause;
        // A quarter more or less.
        let delay = pause.mul_f64(0.75 + 0.5 * exit.draw.clamp(0.0, 1.0));
        let class = exit.class;
        let why = match self.exits {
            0 | 1 => format!("it ended ({class}) for the first time: again after {delay:.1?}"),
            more => format!("it ended ({class}), {more} times in a row: again after {delay:.1?}"),
        };
        AfterExit::Restart { delay, why }
    }

    fn trial(&mut self, exit: &Exit<'_>, Rules { timers, bounds }: &Rules) -> AfterExit {
        let trial = timers.trial.saturating_mul(1 << self.trials.min(16)).min(timers.trial_most);
        self.trials += 1;
        self.pause = trial;
        let last = exit.tail.last().map_or("it wrote nothing", String::as_str);
        let failure = if self.ooms >= bounds.loop_ooms {
            let limit = exit.memory.map_or("what the machine has".to_owned(), |memory| memory.to_string());
            Failure::new(
                FailureCode::OutOfMemory,
                format!(
                    "the worker ran out of memory {} times with the same limit ({limit}): raise limits.memory, lower \
                     context or slots, or place it on a larger machine; it is tried again in {trial:?}",
                    self.ooms
                ),
            )
        } else {
            Failure::new(
                FailureCode::CrashLoop,
                format!(
                    "the worker ended {} times within {:?} (last: {}; it said: {last}); it is tried again in {trial:?}, or \
                     at once with `rbee reset WORKER`",
                    self.recent.len().max(self.trials as usize),
                    timers.loop_window,
                    exit.class,
                ),
            )
        };
        AfterExit::CrashLoop { trial, failure }
    }
}

/// The last line of such a worker is its failure as JSON; else the words are all there is.
fn hopeless(class: ExitClass, tail: &[String]) -> Failure {
    let told = tail.iter().rev().find_map(|line| serde_json::from_str(line).ok());
    told.unwrap_or_else(|| {
        let last = tail.last().map_or("it wrote nothing", String::as_str);
        Failure::new(FailureCode::SpawnFailed, format!("the worker cannot run ({class}): {last}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(class: ExitClass, ready_for: u64) -> Exit<'static> {
        Exit { class, ready_for: Duration::from_secs(ready_for), memory: None, tail: &[], draw: 0.5 }
    }

    /// The pauses that follow exits, each so many seconds after the one before; negative ones are trials.
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
    fn the_first_restart_comes_at_once_and_later_ones_back_off_to_a_minute() {
        let rare = vec![(601, exit(ExitClass::Signal, 0)); 10];
        assert_eq!(pauses(&rare), [0.1, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]);
    }

    #[test]
    fn many_workers_that_ended_together_start_apart() {
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
    fn five_exits_in_ten_minutes_are_a_crash_loop_and_its_trials_grow_rarer() {
        let quick = vec![(1, exit(ExitClass::Signal, 0)); 10];
        assert_eq!(pauses(&quick), [0.1, 1.0, 2.0, 4.0, -300.0, -600.0, -1200.0, -2400.0, -3600.0, -3600.0]);
    }

    #[test]
    fn how_many_exits_are_a_loop_can_be_set() {
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
    fn a_stable_run_makes_the_next_exit_the_first() {
        let signal = |ready_for| (1, exit(ExitClass::Signal, ready_for));
        assert_eq!(pauses(&[signal(0), signal(59), signal(60), signal(0)]), [0.1, 1.0, 0.1, 1.0]);
        // After a long pause a run must be twice as long as that to count.
        let mut looping = vec![signal(0); 5];
        looping.extend([signal(599), signal(1200)]);
        assert_eq!(pauses(&looping)[4..], [-300.0, -600.0, 0.1]);
    }

    #[test]
    fn two_ends_for_want_of_memory_are_enough() {
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
    fn an_exit_for_bad_data_is_not_tried_again_and_keeps_its_own_words() {
        let told = Failure::new(FailureCode::ModelInvalid, "truncated");
        let tail = ["noise".to_owned(), serde_json::to_string(&told).expect("serializes")];
        let after = |class, tail: &[String]| {
            let exit = Exit { class, ready_for: Duration::ZERO, memory: None, tail, draw: 0.0 };
            History::default().after(&exit, Instant::now(), &Rules::default())
        };
        assert_eq!(after(ExitClass::Data, &tail), AfterExit::GiveUp(told));
        let AfterExit::GiveUp(failure) = after(ExitClass::Config, &["no such option".to_owned()]) else {
            panic!("given up");
        };
        assert!(failure.message.contains("no such option"), "{failure}");
    }
}
