//! What becomes of a worker when something happens.

use std::time::{Duration, Instant};

use rbee_schema::{Failure, FailureCode, JobInFlight, StopMode, WorkerEvent};

use super::{
    Because, Effect, Event, Load, Process, Stage, State, Wish, Worker,
    exit::millis,
    pulse::{Pulse, Verdict},
};
use crate::decide::{rules::Rules, timers::Timers};

/// A process that was killed and is there still is killed again after twice as long each time, from the first to the last of
/// these.
const FIRST_KILL_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_KILL_PAUSE: Duration = Duration::from_secs(120);

impl Worker {
    /// What becomes of the worker when `event` happens, and what is to be done about it.
    pub fn step(mut self, event: Event, now: Instant, rules: &Rules) -> (Self, Vec<Effect>) {
        let Rules { timers, bounds } = rules;
        let state = std::mem::replace(&mut self.state, State::Removed);
        match (state, event) {
            (State::Removed, _) => (self, Vec::new()),
            (state, Event::Beat { epoch, jobs, .. }) if epoch != self.epoch => self.heard_late(state, jobs),
            (state, Event::Health { epoch, .. }) if epoch != self.epoch => self.stay(state),
            (state, Event::Loading { epoch, .. } | Event::Ready { epoch }) if epoch != self.epoch => {
                self.ignore(state, &format!("a word of run {epoch}"))
            }

            (State::Requested { early }, Event::Started { pid, port }) => {
                self.started(Process { pid, port, jobs: vec![] }, early, now, rules)
            }
            (State::Requested { .. }, Event::NotStarted(failure)) => match self.wish.clone() {
                Wish::Run => self.fail(failure, Vec::new()),
                Wish::End { why } => self.remove(why, Vec::new()),
            },
            (State::Requested { early }, Event::Stop { why, .. }) => {
                self.wish = Wish::End { why };
                self.stay(State::Requested { early })
            }
            (
                State::Requested { mut early },
                word @ (Event::Loading { .. } | Event::Ready { .. } | Event::Beat { .. }),
            ) => {
                early.push(word);
                self.stay(State::Requested { early })
            }

            (State::Spawning { process, since }, Event::Loading { done_bytes, total_bytes, .. }) => {
                self.stay(State::Loading { process, load: Load { since, moved: now, done_bytes, total_bytes } })
            }
            (State::Loading { process, load }, Event::Loading { done_bytes, total_bytes, .. }) => {
                let moved = if done_bytes > load.done_bytes { now } else { load.moved };
                self.stay(State::Loading { process, load: Load { moved, done_bytes, total_bytes, ..load } })
            }
            (State::Spawning { process, .. } | State::Loading { process, .. }, Event::Ready { .. }) => {
                self.stay(State::Ready { process, since: now, pulse: Pulse::heard(now, 0) })
            }
            // Its `ready` was not heard: a worker beats only when it is.
            (
                State::Spawning { mut process, .. } | State::Loading { mut process, .. },
                Event::Beat { jobs, steps, .. },
            ) => {
                process.jobs = jobs;
                self.stay(State::Ready { process, since: now, pulse: Pulse::heard(now, steps) })
            }
            (State::Spawning { process, .. }, Event::WasDeaf) => self.stay(State::Spawning { process, since: now }),
            (State::Loading { process, load }, Event::WasDeaf) => {
                self.stay(State::Loading { process, load: Load { since: now, moved: now, ..load } })
            }
            (State::Spawning { process, .. }, Event::DeadlinePassed) => {
                let why = format!("not a word for {:?} after its start", timers.first_word);
                self.kill(process, Because::NotReadyInTime(why.clone()), why, now, timers)
            }
            (State::Loading { process, load }, Event::DeadlinePassed) => {
                let read = format!("{} of {} bytes read", load.done_bytes, load.total_bytes);
                let why = if now >= load.since + timers.load(load.total_bytes) {
                    format!("not ready after {:?}, {read}", timers.load(load.total_bytes))
                } else {
                    format!("no progress in loading for {:?}, {read}", timers.load_stall)
                };
                self.kill(process, Because::NotReadyInTime(why.clone()), why, now, timers)
            }

            (State::Ready { mut process, since, pulse }, Event::Beat { jobs, steps, .. }) => {
                let pulse = pulse.beat(now, steps, !jobs.is_empty());
                process.jobs = jobs;
                self.stay(State::Ready { process, since, pulse })
            }
            (State::Suspect { mut process, since, pulse, suspected }, Event::Beat { jobs, steps, .. }) => {
                let pulse = pulse.beat(now, steps, !jobs.is_empty());
                process.jobs = jobs;
                let after_ms = millis(now.saturating_duration_since(suspected));
                self.state = State::Ready { process, since, pulse };
                let recovered = WorkerEvent::Recovered { epoch: self.epoch, after_ms };
                (self, vec![Effect::Publish(recovered)])
            }
            (State::Draining { mut process, deadline }, Event::Beat { jobs, .. }) => {
                process.jobs = jobs;
                self.stay(State::Draining { process, deadline })
            }
            (State::Stopping { mut process, stage, because }, Event::Beat { jobs, .. }) => {
                process.jobs = jobs;
                self.stay(State::Stopping { process, stage, because })
            }
            (state, Event::Beat { jobs, .. }) => self.heard_late(state, jobs),

            (State::Ready { process, since, pulse }, Event::DeadlinePassed) => {
                match pulse.verdict(!process.jobs.is_empty(), now, timers) {
                    Verdict::Fine => self.stay(State::Ready { process, since, pulse }),
                    Verdict::Silent => {
                        let why = format!("no heartbeat for {:?}", timers.suspect);
                        self.suspect(process, (since, pulse), why, now)
                    }
                    Verdict::Hangs => {
                        let jobs = process.jobs.len();
                        let why = format!("{jobs} jobs and not one step of its engine for {:?}", timers.hang);
                        self.kill(process, Because::Hangs(why.clone()), why, now, timers)
                    }
                }
            }
            (State::Ready { process, since, pulse }, Event::Frozen) => {
                self.suspect(process, (since, pulse), "its process was stopped (SIGSTOP)".to_owned(), now)
            }
            (State::Suspect { process, since, pulse, suspected }, Event::DeadlinePassed) => {
                if now < pulse.gone_at(timers) {
                    return self.stay(State::Suspect { process, since, pulse, suspected });
                }
                let why = format!("no heartbeat for {:?}", timers.silent);
                self.kill(process, Because::Hangs(why.clone()), why, now, timers)
            }
            (State::Ready { process, since, pulse }, Event::Health { well, .. }) => match pulse.checked(well, bounds) {
                (pulse, None) => self.stay(State::Ready { process, since, pulse }),
                (_, Some(strikes)) => self.unwell(process, strikes, now, timers),
            },
            (State::Suspect { process, since, pulse, suspected }, Event::Health { well, .. }) => {
                match pulse.checked(well, bounds) {
                    (pulse, None) => self.stay(State::Suspect { process, since, pulse, suspected }),
                    (_, Some(strikes)) => self.unwell(process, strikes, now, timers),
                }
            }
            (State::Ready { process, since, pulse }, Event::WasDeaf) => {
                self.stay(State::Ready { process, since, pulse: pulse.excused(now) })
            }
            (State::Suspect { process, since, pulse, suspected }, Event::WasDeaf) => {
                self.stay(State::Suspect { process, since, pulse: pulse.excused(now), suspected })
            }

            (State::Spawning { process, .. } | State::Loading { process, .. }, Event::Stop { why, mode }) => {
                self.stop(process, why, mode, now, timers)
            }
            (State::Ready { process, .. } | State::Suspect { process, .. }, Event::Stop { why, mode }) => match mode {
                StopMode::Drain => {
                    self.wish = Wish::End { why: why.clone() };
                    self.state = State::Draining { process, deadline: now + timers.drain };
                    (self, vec![Effect::Drain, Effect::Publish(WorkerEvent::Draining { why })])
                }
                StopMode::Terminate | StopMode::Kill => self.stop(process, why, mode, now, timers),
            },
            (State::Draining { process, deadline }, Event::Stop { why, mode }) => match mode {
                StopMode::Drain => self.stay(State::Draining { process, deadline }),
                StopMode::Terminate | StopMode::Kill => self.stop(process, why, mode, now, timers),
            },
            (State::Draining { process, .. }, Event::DeadlinePassed) => {
                let why = format!("its jobs were not done within {:?}", timers.drain);
                self.terminate(process, why, now, timers)
            }
            (State::Stopping { process, stage, because }, Event::Stop { why, mode }) => {
                self.wish = Wish::End { why: why.clone() };
                match (stage, mode) {
                    (Stage::Terminated { .. }, StopMode::Kill) => self.kill(process, because, why, now, timers),
                    _ => self.stay(State::Stopping { process, stage, because }),
                }
            }
            (State::Stopping { process, stage, because }, Event::DeadlinePassed) => match stage {
                Stage::Terminated { .. } => {
                    let why = format!("it did not end within {:?} of SIGTERM", timers.term);
                    self.kill(process, because, why, now, timers)
                }
                Stage::Killed { first, .. } => self.kill_again(process, because, first, now),
            },

            (State::Backoff { .. } | State::CrashLoop { .. }, Event::DeadlinePassed | Event::Reset)
            | (State::Failed(_), Event::Reset) => self.start_again(),
            (State::Backoff { .. } | State::CrashLoop { .. } | State::Failed(_), Event::Stop { why, .. }) => {
                self.remove(why, Vec::new())
            }

            (state, Event::Exited(ended)) => self.exited(state, ended, now, rules),

            // Late and repeated words are normal, and a beat may be heard before them; they say nothing that is not known.
            (
                state @ (State::Ready { .. } | State::Suspect { .. } | State::Draining { .. } | State::Stopping { .. }),
                Event::Loading { .. } | Event::Ready { .. },
            )
            | (state @ State::Suspect { .. }, Event::Frozen)
            | (state, Event::WasDeaf | Event::Health { .. }) => self.stay(state),
            (
                state @ (State::Spawning { .. }
                | State::Loading { .. }
                | State::Draining { .. }
                | State::Stopping { .. }),
                Event::Frozen,
            ) => self.stay(state), // Its own deadline runs.

            (state, event) => self.ignore(state, &format!("{event:?}")),
        }
    }

    fn stay(mut self, state: State) -> (Self, Vec<Effect>) {
        self.state = state;
        (self, Vec::new())
    }

    pub(super) fn ignore(mut self, state: State, heard: &str) -> (Self, Vec<Effect>) {
        self.state = state;
        let state = self.phase().as_str().to_owned();
        (self, vec![Effect::Publish(WorkerEvent::Ignored { received: heard.to_owned(), state })])
    }

    fn started(mut self, process: Process, early: Vec<Event>, now: Instant, rules: &Rules) -> (Self, Vec<Effect>) {
        let spawned = Effect::Publish(WorkerEvent::Spawned {
            model: self.model.clone(),
            epoch: self.epoch,
            pid: process.pid,
            port: process.port,
        });
        match self.wish.clone() {
            Wish::Run => {
                self.state = State::Spawning { process, since: now };
                early.into_iter().fold((self, vec![spawned]), |(worker, mut effects), word| {
                    let (worker, more) = worker.step(word, now, rules);
                    effects.extend(more);
                    (worker, effects)
                })
            }
            Wish::End { why } => {
                let (worker, mut effects) = self.terminate(process, why, now, &rules.timers);
                effects.insert(0, spawned);
                (worker, effects)
            }
        }
    }

    /// The last words of a run that has ended: what it took in its last moment goes back too.
    fn heard_late(mut self, state: State, jobs: Vec<JobInFlight>) -> (Self, Vec<Effect>) {
        self.state = state;
        let late: Vec<_> = jobs.into_iter().filter(|job| !self.returned.contains(job)).collect();
        if late.is_empty() {
            return (self, Vec::new());
        }
        self.returned.extend(late.iter().cloned());
        (self, vec![Effect::GiveBack(late)])
    }

    fn suspect(
        mut self,
        process: Process,
        (since, pulse): (Instant, Pulse),
        why: String,
        now: Instant,
    ) -> (Self, Vec<Effect>) {
        self.state = State::Suspect { process, since, pulse, suspected: now };
        let suspect = WorkerEvent::Suspect { epoch: self.epoch, why };
        (self, vec![Effect::Publish(suspect)])
    }

    fn unwell(self, process: Process, strikes: u32, now: Instant, timers: &Timers) -> (Self, Vec<Effect>) {
        let why = format!("its health check failed {strikes} times in a row");
        self.kill(process, Because::Hangs(why.clone()), why, now, timers)
    }

    fn stop(
        mut self,
        process: Process,
        why: String,
        mode: StopMode,
        now: Instant,
        timers: &Timers,
    ) -> (Self, Vec<Effect>) {
        self.wish = Wish::End { why: why.clone() };
        match mode {
            StopMode::Drain | StopMode::Terminate => self.terminate(process, why, now, timers),
            StopMode::Kill => self.kill(process, Because::Unwanted, why, now, timers),
        }
    }

    fn terminate(mut self, process: Process, why: String, now: Instant, timers: &Timers) -> (Self, Vec<Effect>) {
        let stage = Stage::Terminated { kill_at: now + timers.term };
        self.state = State::Stopping { process, stage, because: Because::Unwanted };
        (self, vec![Effect::Terminate, Effect::Publish(WorkerEvent::Stopping { why })])
    }

    fn kill(
        mut self,
        process: Process,
        because: Because,
        why: String,
        now: Instant,
        timers: &Timers,
    ) -> (Self, Vec<Effect>) {
        let stage = Stage::Killed { first: now, again: now + timers.kill };
        self.state = State::Stopping { process, stage, because };
        (self, vec![Effect::Kill, Effect::Publish(WorkerEvent::Stopping { why })])
    }

    fn kill_again(mut self, process: Process, because: Because, first: Instant, now: Instant) -> (Self, Vec<Effect>) {
        let since = now.saturating_duration_since(first);
        let unkillable = WorkerEvent::Unkillable { pid: process.pid, since_ms: millis(since) };
        let again = now + since.clamp(FIRST_KILL_PAUSE, LONGEST_KILL_PAUSE);
        self.state = State::Stopping { process, stage: Stage::Killed { first, again }, because };
        (self, vec![Effect::Kill, Effect::Publish(unkillable)])
    }

    fn start_again(mut self) -> (Self, Vec<Effect>) {
        self.epoch += 1;
        self.state = State::Requested { early: Vec::new() };
        (self, vec![Effect::Start])
    }

    pub(super) fn fail(mut self, failure: Failure, mut effects: Vec<Effect>) -> (Self, Vec<Effect>) {
        effects.push(Effect::Publish(WorkerEvent::Failed { model: self.model.clone(), failure: failure.clone() }));
        self.state = State::Failed(failure);
        (self, effects)
    }

    pub(super) fn remove(mut self, why: String, mut effects: Vec<Effect>) -> (Self, Vec<Effect>) {
        effects.push(Effect::Publish(WorkerEvent::Removed { model: self.model.clone(), why }));
        effects.push(Effect::Forget);
        self.state = State::Removed;
        (self, effects)
    }
}

impl Event {
    /// A start that failed because of the machine.
    pub fn not_started(doing: &str, cause: impl std::fmt::Display) -> Self {
        Self::NotStarted(Failure::new(FailureCode::SpawnFailed, format!("failed to {doing}: {cause}")))
    }
}
