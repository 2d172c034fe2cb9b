//! The exit of a worker process: its class, its jobs, and what follows.

use std::time::{Duration, Instant};

use rbee_schema::{ByteSize, ExitClass, WorkerEvent};

use super::{
    Worker,
    blame::ProcessEnd,
    claims::EndedRun,
    event::Effect,
    process_exit::ProcessExit,
    state::{Goal, Process, State, StopCause},
};
use crate::decide::{
    restart::{AfterExit, Exit},
    rules::Rules,
};

impl Worker {
    pub(super) fn exited(
        mut self,
        state: State,
        exit: ProcessExit,
        now: Instant,
        rules: &Rules,
    ) -> (Self, Vec<Effect>) {
        let (process, cause, ready_for) = match state {
            State::Spawning { process, .. } | State::Loading { process, .. } | State::Draining { process, .. } => {
                (process, StopCause::Requested, Duration::ZERO)
            }
            State::Ready { process, since, .. } | State::Suspect { process, since, .. } => {
                (process, StopCause::Requested, now.saturating_duration_since(since))
            }
            State::Stopping { process, cause, .. } => (process, cause, Duration::ZERO),
            State::Requested { .. }
            | State::Backoff { .. }
            | State::CrashLoop { .. }
            | State::Failed(_)
            | State::Removed => {
                return self.ignore(state, &format!("exit: {exit:?}"));
            }
        };
        let class = self.classify(&cause, &exit);
        let why = describe(class, &cause, &exit, self.spec.limits.memory);
        let Process { pid, port, claims } = process;
        let end = ProcessEnd { class, code: exit.code, signal: exit.signal };
        let (ended, returns) = EndedRun::new(self.epoch, end, exit.tail.clone(), claims);
        let is_of_one_job = returns.as_ref().and_then(|returns| returns.blame).is_some_and(|blame| blame.is_of_one());
        let jobs_returned = returns.as_ref().map_or(0, |returns| returns.jobs.len());
        let mut effects: Vec<Effect> = returns.map(Effect::ReturnJobs).into_iter().collect();
        effects.push(Effect::Kill);
        effects.push(Effect::ReleasePort { port, why: format!("process {pid} of worker {} exited", self.name) });
        effects.push(Effect::Publish(WorkerEvent::Exited {
            model: self.model.clone(),
            epoch: self.epoch,
            class,
            code: exit.code,
            signal: exit.signal,
            why,
            jobs_returned: u32::try_from(jobs_returned).unwrap_or(u32::MAX),
            stderr_tail: exit.tail.clone(),
        }));
        self.ended = Some(ended);
        if let Goal::Stop { why } = self.goal.clone() {
            return self.remove(why, effects);
        }
        let memory = self.spec.limits.memory;
        let counted = Exit { class, ready_for, memory, is_of_one_job, tail: &exit.tail, draw: exit.draw };
        match self.history.after(&counted, now, rules) {
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

    fn classify(&self, cause: &StopCause, exit: &ProcessExit) -> ExitClass {
        match (cause, &self.goal, exit.code, exit.signal) {
            (StopCause::NotReadyInTime(_), ..) => ExitClass::ReadyTimeout,
            (StopCause::Hung(_), ..) => ExitClass::Hang,
            (StopCause::Unresponsive(_), ..) => ExitClass::Unresponsive,
            _ if exit.out_of_memory => ExitClass::Oom,
            (_, Goal::Stop { .. }, ..) => ExitClass::Clean,
            // Codes of sysexits.h.
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

/// Description of the exit, for people.
fn describe(class: ExitClass, cause: &StopCause, exit: &ProcessExit, memory: Option<ByteSize>) -> String {
    let how = match (exit.code, exit.signal) {
        (Some(code), _) => format!("it exited with code {code}"),
        (None, Some(signal)) => format!("signal {signal} ended it"),
        (None, None) => "it exited while no hive was watching, so its status is unknown".to_owned(),
    };
    match (cause, class) {
        (StopCause::NotReadyInTime(why) | StopCause::Hung(why) | StopCause::Unresponsive(why), _) => {
            format!("killed by its hive: {why}")
        }
        (StopCause::Requested, ExitClass::Oom) => {
            let limit = memory.map_or("the machine has no more".to_owned(), |memory| format!("its limit is {memory}"));
            format!("out of memory, {limit}; {how}")
        }
        (StopCause::Requested, _) => how,
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
