//! The transitions of a worker: every event in every state.

use std::time::{Duration, Instant};

use rbee_schema::{Failure, FailureCode, JobInFlight, StopMode, WorkerEvent};

use super::{
    Worker,
    claims::Claims,
    event::{Effect, Event},
    exit::millis,
    liveness::{Liveness, Verdict},
    state::{Goal, Load, Process, Stage, State, StopCause},
};
use crate::decide::{rules::Rules, timers::Timers};

/// First pause before a process that survives SIGKILL is sent another. It doubles each time: such a process waits for a
/// device or a file system, and ends when that answers.
const FIRST_KILL_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause between two such signals. Each is published, and one event in two minutes is noticed without being noise.
const LONGEST_KILL_PAUSE: Duration = Duration::from_secs(120);

impl Worker {
    /// Handles `event`: returns the worker in its next state, and the effects to carry out.
    pub fn step(mut self, event: Event, now: Instant, rules: &Rules) -> (Self, Vec<Effect>) {
        let Rules { timers, bounds } = rules;
        let state = std::mem::replace(&mut self.state, State::Removed);
        match (state, event) {
            (State::Removed, _) => (self, Vec::new()),
            (state, Event::Heartbeat { epoch, jobs, .. }) if epoch != self.epoch => {
                self.late_heartbeat(state, epoch, jobs)
            }
            (state, Event::Health { epoch, .. }) if epoch != self.epoch => self.stay(state),
            (state, Event::Loading { epoch, .. } | Event::Ready { epoch }) if epoch != self.epoch => {
                self.ignore(state, &format!("a message of run {epoch}"))
            }

            (State::Requested { early }, Event::Started { pid, port }) => {
                self.started(Process { pid, port, claims: Claims::none(now) }, early, now, rules)
            }
            (State::Requested { .. }, Event::NotStarted(failure)) => match self.goal.clone() {
                Goal::Run => self.fail(failure, Vec::new()),
                Goal::Stop { why } => self.remove(why, Vec::new()),
            },
            (State::Requested { early }, Event::Stop { why, .. }) => {
                self.goal = Goal::Stop { why };
                self.stay(State::Requested { early })
            }
            (
                State::Requested { mut early },
                message @ (Event::Loading { .. } | Event::Ready { .. } | Event::Heartbeat { .. }),
            ) => {
                early.push(message);
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
                self.stay(State::Ready { process, since: now, liveness: Liveness::begin(now, 0) })
            }
            // Its `ready` was lost: a worker sends heartbeats only once it is ready.
            (
                State::Spawning { mut process, .. } | State::Loading { mut process, .. },
                Event::Heartbeat { jobs, steps, blocked, .. },
            ) => {
                self.claimed(&mut process, (jobs, blocked), now);
                self.stay(State::Ready { process, since: now, liveness: Liveness::begin(now, steps) })
            }
            (State::Spawning { process, .. }, Event::ObservationGap) => {
                self.stay(State::Spawning { process, since: now })
            }
            (State::Loading { process, load }, Event::ObservationGap) => {
                self.stay(State::Loading { process, load: Load { since: now, moved: now, ..load } })
            }
            (State::Spawning { process, .. }, Event::DeadlinePassed) => {
                let why = format!("no message for {:?} after its start", timers.first_word);
                self.kill(process, StopCause::NotReadyInTime(why.clone()), why, now, timers)
            }
            (State::Loading { process, load }, Event::DeadlinePassed) => {
                let read = format!("{} of {} bytes read", load.done_bytes, load.total_bytes);
                let why = if now >= load.since + timers.load(load.total_bytes) {
                    format!("not ready after {:?}, {read}", timers.load(load.total_bytes))
                } else {
                    format!("no progress of its load for {:?}, {read}", timers.load_stall)
                };
                self.kill(process, StopCause::NotReadyInTime(why.clone()), why, now, timers)
            }

            (State::Ready { mut process, since, liveness }, Event::Heartbeat { jobs, steps, blocked, .. }) => {
                self.claimed(&mut process, (jobs, blocked), now);
                let liveness = liveness.heartbeat(now, steps, process.claims.is_busy());
                self.stay(State::Ready { process, since, liveness })
            }
            (
                State::Suspect { mut process, since, liveness, suspected },
                Event::Heartbeat { jobs, steps, blocked, .. },
            ) => {
                self.claimed(&mut process, (jobs, blocked), now);
                let liveness = liveness.heartbeat(now, steps, process.claims.is_busy());
                let after_ms = millis(now.saturating_duration_since(suspected));
                self.state = State::Ready { process, since, liveness };
                let recovered = WorkerEvent::Recovered { epoch: self.epoch, after_ms };
                (self, vec![Effect::Publish(recovered)])
            }
            (State::Draining { mut process, deadline }, Event::Heartbeat { jobs, blocked, .. }) => {
                self.claimed(&mut process, (jobs, blocked), now);
                self.stay(State::Draining { process, deadline })
            }
            (State::Stopping { mut process, stage, cause }, Event::Heartbeat { jobs, blocked, .. }) => {
                self.claimed(&mut process, (jobs, blocked), now);
                self.stay(State::Stopping { process, stage, cause })
            }
            (state, Event::Heartbeat { epoch, jobs, .. }) => self.late_heartbeat(state, epoch, jobs),

            (State::Ready { process, since, liveness }, Event::DeadlinePassed) => {
                match liveness.verdict(process.claims.is_busy(), now, timers) {
                    Verdict::Alive => self.stay(State::Ready { process, since, liveness }),
                    Verdict::Unresponsive => {
                        let why = format!("no heartbeat for {:?}", timers.suspect);
                        self.suspect(process, (since, liveness), why, now)
                    }
                    Verdict::Hung => {
                        let jobs = process.claims.jobs.len();
                        let why = format!("{jobs} jobs and no step of its engine for {:?}", timers.hang);
                        self.kill(process, StopCause::Hung(why.clone()), why, now, timers)
                    }
                }
            }
            (State::Ready { process, since, liveness }, Event::Frozen) => {
                self.suspect(process, (since, liveness), "its process was stopped (SIGSTOP)".to_owned(), now)
            }
            (State::Suspect { process, since, liveness, suspected }, Event::DeadlinePassed) => {
                if now < liveness.lost_at(timers) {
                    return self.stay(State::Suspect { process, since, liveness, suspected });
                }
                let why = format!("no heartbeat for {:?}", timers.silent);
                self.kill(process, StopCause::Unresponsive(why.clone()), why, now, timers)
            }
            (State::Ready { process, since, liveness }, Event::Health { healthy, .. }) => {
                match liveness.checked(healthy, bounds) {
                    (liveness, None) => self.stay(State::Ready { process, since, liveness }),
                    (_, Some(strikes)) => self.unhealthy(process, strikes, now, timers),
                }
            }
            (State::Suspect { process, since, liveness, suspected }, Event::Health { healthy, .. }) => {
                match liveness.checked(healthy, bounds) {
                    (liveness, None) => self.stay(State::Suspect { process, since, liveness, suspected }),
                    (_, Some(strikes)) => self.unhealthy(process, strikes, now, timers),
                }
            }
            (State::Ready { process, since, liveness }, Event::ObservationGap) => {
                self.stay(State::Ready { process, since, liveness: liveness.excused(now) })
            }
            (State::Suspect { process, since, liveness, suspected }, Event::ObservationGap) => {
                self.stay(State::Suspect { process, since, liveness: liveness.excused(now), suspected })
            }

            (State::Spawning { process, .. } | State::Loading { process, .. }, Event::Stop { why, mode }) => {
                self.stop(process, why, mode, now, timers)
            }
            (State::Ready { process, .. } | State::Suspect { process, .. }, Event::Stop { why, mode }) => match mode {
                StopMode::Finish | StopMode::Drain => {
                    self.goal = Goal::Stop { why: why.clone() };
                    self.state = State::Draining { process, deadline: now + timers.time_to_finish(mode) };
                    (self, vec![Effect::Drain, Effect::Publish(WorkerEvent::Draining { why })])
                }
                StopMode::Terminate | StopMode::Kill => self.stop(process, why, mode, now, timers),
            },
            (State::Draining { process, deadline }, Event::Stop { why, mode }) => match mode {
                StopMode::Finish | StopMode::Drain => {
                    let deadline = deadline.min(now + timers.time_to_finish(mode));
                    self.stay(State::Draining { process, deadline })
                }
                StopMode::Terminate | StopMode::Kill => self.stop(process, why, mode, now, timers),
            },
            (State::Draining { process, .. }, Event::DeadlinePassed) => {
                self.terminate(process, "it did not finish its jobs in time".to_owned(), now, timers)
            }
            (State::Stopping { process, stage, cause }, Event::Stop { why, mode }) => {
                self.goal = Goal::Stop { why: why.clone() };
                match (stage, mode) {
                    (Stage::Terminated { .. }, StopMode::Kill) => self.kill(process, cause, why, now, timers),
                    _ => self.stay(State::Stopping { process, stage, cause }),
                }
            }
            (State::Stopping { process, stage, cause }, Event::DeadlinePassed) => match stage {
                Stage::Terminated { .. } => {
                    let why = format!("it did not exit within {:?} of SIGTERM", timers.term);
                    self.kill(process, cause, why, now, timers)
                }
                Stage::Killed { first, .. } => self.kill_again(process, cause, first, now),
            },

            (State::Backoff { .. } | State::CrashLoop { .. }, Event::DeadlinePassed | Event::Reset)
            | (State::Failed(_), Event::Reset) => self.start_again(),
            (State::Backoff { .. } | State::CrashLoop { .. } | State::Failed(_), Event::Stop { why, .. }) => {
                self.remove(why, Vec::new())
            }

            (state, Event::Exited(exit)) => self.exited(state, exit, now, rules),

            // Late and duplicate messages are normal, and a heartbeat may overtake them: they contain nothing new.
            (
                state @ (State::Ready { .. } | State::Suspect { .. } | State::Draining { .. } | State::Stopping { .. }),
                Event::Loading { .. } | Event::Ready { .. },
            )
            | (state @ State::Suspect { .. }, Event::Frozen)
            | (state, Event::ObservationGap | Event::Health { .. }) => self.stay(state),
            (
                state @ (State::Spawning { .. }
                | State::Loading { .. }
                | State::Draining { .. }
                | State::Stopping { .. }),
                Event::Frozen,
            ) => self.stay(state), // The deadline of the state finds it.

            (state, event) => self.ignore(state, &format!("{event:?}")),
        }
    }

    fn stay(mut self, state: State) -> (Self, Vec<Effect>) {
        self.state = state;
        (self, Vec::new())
    }

    pub(super) fn ignore(mut self, state: State, event: &str) -> (Self, Vec<Effect>) {
        self.state = state;
        let state = self.phase().as_str().to_owned();
        (self, vec![Effect::Publish(WorkerEvent::Ignored { received: event.to_owned(), state })])
    }

    fn started(mut self, process: Process, early: Vec<Event>, now: Instant, rules: &Rules) -> (Self, Vec<Effect>) {
        let spawned = Effect::Publish(WorkerEvent::Spawned {
            model: self.model.clone(),
            epoch: self.epoch,
            pid: process.pid,
            port: process.port,
        });
        match self.goal.clone() {
            Goal::Run => {
                self.state = State::Spawning { process, since: now };
                early.into_iter().fold((self, vec![spawned]), |(worker, mut effects), message| {
                    let (worker, more) = worker.step(message, now, rules);
                    effects.extend(more);
                    (worker, effects)
                })
            }
            Goal::Stop { why } => {
                let (worker, mut effects) = self.terminate(process, why, now, &rules.timers);
                effects.insert(0, spawned);
                (worker, effects)
            }
        }
    }

    /// Takes the jobs of a heartbeat. A job that has ended shows that the worker itself works.
    fn claimed(&mut self, process: &mut Process, (jobs, blocked): (Vec<JobInFlight>, u32), now: Instant) {
        if process.claims.update(jobs, blocked, now) {
            self.history.job_ended();
        }
    }

    /// Handles a heartbeat of a run that has exited: a job that it took last returns to the queue too.
    fn late_heartbeat(mut self, state: State, epoch: u64, jobs: Vec<JobInFlight>) -> (Self, Vec<Effect>) {
        self.state = state;
        let returns = self.ended.as_mut().and_then(|ended| ended.late_heartbeat(epoch, jobs));
        (self, returns.map(Effect::ReturnJobs).into_iter().collect())
    }

    fn suspect(
        mut self,
        process: Process,
        (since, liveness): (Instant, Liveness),
        why: String,
        now: Instant,
    ) -> (Self, Vec<Effect>) {
        self.state = State::Suspect { process, since, liveness, suspected: now };
        let suspect = WorkerEvent::Suspect { epoch: self.epoch, why };
        (self, vec![Effect::Publish(suspect)])
    }

    fn unhealthy(self, process: Process, strikes: u32, now: Instant, timers: &Timers) -> (Self, Vec<Effect>) {
        let why = format!("its health check failed {strikes} times in a row");
        self.kill(process, StopCause::Unresponsive(why.clone()), why, now, timers)
    }

    fn stop(
        mut self,
        process: Process,
        why: String,
        mode: StopMode,
        now: Instant,
        timers: &Timers,
    ) -> (Self, Vec<Effect>) {
        self.goal = Goal::Stop { why: why.clone() };
        match mode {
            StopMode::Finish | StopMode::Drain | StopMode::Terminate => self.terminate(process, why, now, timers),
            StopMode::Kill => self.kill(process, StopCause::Requested, why, now, timers),
        }
    }

    fn terminate(mut self, process: Process, why: String, now: Instant, timers: &Timers) -> (Self, Vec<Effect>) {
        let stage = Stage::Terminated { kill_at: now + timers.term };
        self.state = State::Stopping { process, stage, cause: StopCause::Requested };
        (self, vec![Effect::Terminate, Effect::Publish(WorkerEvent::Stopping { why })])
    }

    fn kill(
        mut self,
        process: Process,
        cause: StopCause,
        why: String,
        now: Instant,
        timers: &Timers,
    ) -> (Self, Vec<Effect>) {
        let stage = Stage::Killed { first: now, again: now + timers.kill };
        self.state = State::Stopping { process, stage, cause };
        (self, vec![Effect::Kill, Effect::Publish(WorkerEvent::Stopping { why })])
    }

    fn kill_again(mut self, process: Process, cause: StopCause, first: Instant, now: Instant) -> (Self, Vec<Effect>) {
        let since = now.saturating_duration_since(first);
        let unkillable = WorkerEvent::Unkillable { pid: process.pid, since_ms: millis(since) };
        let again = now + since.clamp(FIRST_KILL_PAUSE, LONGEST_KILL_PAUSE);
        self.state = State::Stopping { process, stage: Stage::Killed { first, again }, cause };
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
    /// Failure of a start that was not the worker's fault: `doing` is what was attempted.
    pub fn not_started(doing: &str, cause: impl std::fmt::Display) -> Self {
        Self::NotStarted(Failure::new(FailureCode::SpawnFailed, format!("failed to {doing}: {cause}")))
    }
}
