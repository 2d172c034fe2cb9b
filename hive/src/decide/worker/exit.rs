//! The end of a process: what kind it was, what goes back, what follows.

use std::time::{Duration, Instant};

use rbee_schema::{ExitClass, WorkerEvent};

use super::{Because, Effect, Process, State, Wish, Worker};
use crate::decide::{
    restart::{AfterExit, Exit},
    rules::Rules,
};

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ended {
    /// The exit code, where it had one.
    pub code: Option<i32>,
    /// The signal that ended it, where one did.
    pub signal: Option<i32>,
    /// Whether the kernel says that it was killed for want of memory, or it said so itself.
    pub out_of_memory: bool,
    /// The last lines that it wrote.
    pub tail: Vec<String>,
    /// A random number between 0 and 1.
    pub draw: f64,
}

impl Worker {
    pub(super) fn exited(mut self, state: State, ended: Ended, now: Instant, rules: &Rules) -> (Self, Vec<Effect>) {
        let (process, because, ready_for) = match state {
            State::Spawning { process, .. } | State::Loading { process, .. } | State::Draining { process, .. } => {
                (process, Because::Unwanted, Duration::ZERO)
            }
            State::Ready { process, since, .. } | State::Suspect { process, since, .. } => {
                (process, Because::Unwanted, now.saturating_duration_since(since))
            }
            State::Stopping { process, because, .. } => (process, because, Duration::ZERO),
            State::Requested { .. }
            | State::Backoff { .. }
            | State::CrashLoop { .. }
            | State::Failed(_)
            | State::Removed => {
                return self.ignore(state, &format!("an exit: {ended:?}"));
            }
        };
        let class = self.classify(&because, &ended);
        let why = words(class, &because, &ended, self.spec.limits.memory);
        let Process { pid, port, jobs } = process;
        let mut effects = Vec::new();
        if !jobs.is_empty() {
            effects.push(Effect::GiveBack(jobs.clone()));
        }
        effects.push(Effect::Kill);
        if port > 0 {
            effects.push(Effect::ReleasePort { port, why: format!("process {pid} of worker {} ended", self.name) });
        }
        effects.push(Effect::Publish(WorkerEvent::Exited {
            model: self.model.clone(),
            epoch: self.epoch,
            class,
            code: ended.code,
            signal: ended.signal,
            why,
            jobs_returned: u32::try_from(jobs.len()).unwrap_or(u32::MAX),
            stderr_tail: ended.tail.clone(),
        }));
        self.returned = jobs;
        if let Wish::End { why } = self.wish.clone() {
            return self.remove(why, effects);
        }
        let memory = self.spec.limits.memory;
        let exit = Exit { class, ready_for, memory, tail: &ended.tail, draw: ended.draw };
        match self.history.after(&exit, now, rules) {
            AfterExit::Restart { delay, why } => {
                let restarting = WorkerEvent::Restarting { epoch: self.epoch + 1, delay_ms: millis(delay), why };
                effects.push(Effect::Publish(restarting));
                self.state = State::Backoff { until: now + delay };
                (self, effects)
            }
            AfterExit::CrashLoop { trial, failure } => {
                effects.push(Effect::Publish(WorkerEvent::CrashLooped {
                    model: self.model.clone(),
                    failure: failure.clone(),
                    retry_ms: millis(trial),
                }));
                self.state = State::CrashLoop { until: now + trial, failure };
                (self, effects)
            }
            AfterExit::GiveUp(failure) => self.fail(failure, effects),
        }
    }

    fn classify(&self, because: &Because, ended: &Ended) -> ExitClass {
        match (because, &self.wish, ended.code, ended.signal) {
            (Because::NotReadyInTime(_), ..) => ExitClass::ReadyTimeout,
            (Because::Hangs(_), ..) => ExitClass::Hang,
            _ if ended.out_of_memory => ExitClass::Oom,
            (_, Wish::End { .. }, ..) => ExitClass::Clean,
            // The codes of sysexits.h.
            (_, _, Some(0), _) => ExitClass::Clean,
            (_, _, Some(65), _) => ExitClass::Data,
            (_, _, Some(77), _) => ExitClass::Permission,
            (_, _, Some(78), _) => ExitClass::Config,
            (_, _, Some(_), _) => ExitClass::Other,
            (_, _, None, Some(_)) => ExitClass::Signal,
            (_, _, None, None) => ExitClass::Unknown,
        }
    }
}

fn words(class: ExitClass, because: &Because, ended: &Ended, memory: Option<rbee_schema::ByteSize>) -> String {
    let how = match (ended.code, ended.signal) {
        (Some(code), _) => format!("it exited with code {code}"),
        (None, Some(signal)) => format!("signal {signal} ended it"),
        (None, None) => "it ended while nobody could see how".to_owned(),
    };
    match (because, class) {
        (Because::NotReadyInTime(why) | Because::Hangs(why), _) => format!("killed by its hive: {why}"),
        (Because::Unwanted, ExitClass::Oom) => {
            let limit = memory.map_or("the machine had no more".to_owned(), |memory| format!("its limit is {memory}"));
            format!("out of memory, {limit}; {how}")
        }
        (Because::Unwanted, _) => how,
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
