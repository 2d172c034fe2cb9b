//! The state machine of one worker, as its hive sees it.
//!
//! ```text
//!                                                 ┌─── heartbeat ───┐
//!                                                 ▼                 │
//!  spawn ─▶ Requested ─▶ Spawning ─▶ Loading ─▶ Ready ─ no beat ─▶ Suspect
//!              ▲  │         │          │          │                 │
//!              │  │refused  │          │          ├─ drain ─▶ Draining
//!              │  ▼         │          │          │                 │
//!              │ Failed     └────┬─────┴──────────┴──── stop, hang ─▶ Stopping
//!              │  ▲              ▼                                      │
//!              │  └─── final ─ exit ◀───────────────────────────────────┘
//!              │                 │ └── stop requested ─▶ Removed
//!              ├── Backoff ◀─────┤
//!              └── CrashLoop ◀───┘
//! ```
//!
//! [`Worker::step`] is the only place that changes a state. Busy and idle are no states: they follow from the jobs.
//! Every message of a worker carries its run (epoch). A message of another run, or one that does not fit the state, is
//! published as ignored and changes nothing. An exit is handled in a fixed order: its jobs return to the queue, the rest of
//! the process tree is killed, the port is released, the exit is published, and last it is decided what follows.

mod blame;
mod claims;
mod event;
mod exit;
mod liveness;
mod process_exit;
mod state;
mod step;

use std::time::Instant;

use rbee_schema::{ModelName, ModelSpec, WorkerEvent, WorkerName, WorkerPhase, WorkerRecord};

pub use self::{
    blame::{Blame, ProcessEnd},
    claims::Returns,
    event::{Effect, Event, Recorded},
    process_exit::ProcessExit,
};
use self::{
    claims::{Claims, EndedRun},
    liveness::Liveness,
    state::{Goal, Load, Process, Stage, State, StopCause},
};
use crate::decide::{restart::History, rules::Rules, timers::Timers};

/// A worker and its state.
#[derive(Debug, Clone)]
pub struct Worker {
    /// Name of the worker.
    pub name: WorkerName,
    /// Model that the worker serves.
    pub model: ModelName,
    /// Declaration of the model.
    pub spec: ModelSpec,
    /// Number of the current run, from 1.
    pub epoch: u64,
    history: History,
    goal: Goal,
    /// The last run that has ended. Returning one of its jobs twice would take it from its next worker.
    ended: Option<EndedRun>,
    state: State,
}

impl Worker {
    /// A new worker, and the effects that start it.
    pub fn new(name: WorkerName, model: ModelName, spec: ModelSpec) -> (Self, Vec<Effect>) {
        let worker = Self {
            name,
            model,
            spec,
            epoch: 1,
            history: History::default(),
            goal: Goal::Run,
            ended: None,
            state: State::Requested { early: Vec::new() },
        };
        (worker, vec![Effect::Start])
    }

    /// A worker of an earlier run of the hive whose process still runs.
    pub fn adopt(recorded: Recorded, pid: u32, port: u16, now: Instant, timers: &Timers) -> (Self, Vec<Effect>) {
        let process = Process { pid, port, claims: Claims::none(now) };
        let state = match recorded.record.phase {
            WorkerPhase::Ready | WorkerPhase::Suspect => {
                State::Ready { process, since: now, liveness: Liveness::begin(now, 0) }
            }
            WorkerPhase::Draining => State::Draining { process, deadline: now + timers.drain },
            WorkerPhase::Stopping => State::Stopping {
                process,
                stage: Stage::Terminated { kill_at: now + timers.term },
                cause: StopCause::Requested,
            },
            WorkerPhase::Requested
            | WorkerPhase::Spawning
            | WorkerPhase::Loading
            | WorkerPhase::Backoff
            | WorkerPhase::CrashLoop
            | WorkerPhase::Failed => {
                State::Loading { process, load: Load { since: now, moved: now, done_bytes: 0, total_bytes: 0 } }
            }
        };
        let again = match &state {
            State::Draining { .. } => Some(Effect::Drain),
            State::Stopping { .. } => Some(Effect::Terminate),
            _ => None,
        };
        let worker = Self::recorded(recorded, state);
        let adopted = WorkerEvent::Adopted { model: worker.model.clone(), epoch: worker.epoch, pid, port };
        (worker, [Effect::Publish(adopted)].into_iter().chain(again).collect())
    }

    /// A worker of an earlier run of the hive that has no process any more. `exit` is what is known of its end.
    pub fn reap(recorded: Recorded, exit: ProcessExit, now: Instant, rules: &Rules) -> (Self, Vec<Effect>) {
        let WorkerRecord { phase, pid, port, failure, .. } = recorded.record.clone();
        let state = match (phase, failure, pid.zip(port)) {
            (WorkerPhase::Failed, Some(failure), _) => State::Failed(failure),
            (WorkerPhase::CrashLoop, Some(failure), _) => State::CrashLoop { until: now + rules.timers.trial, failure },
            (WorkerPhase::Requested | WorkerPhase::Backoff, ..) | (_, _, None) => State::Backoff { until: now },
            (_, _, Some((pid, port))) => {
                let process = Process { pid, port, claims: Claims::none(now) };
                let worker = Self::recorded(recorded, State::Spawning { process, since: now });
                return worker.step(Event::Exited(exit), now, rules);
            }
        };
        let worker = Self::recorded(recorded, state);
        match worker.goal.clone() {
            Goal::Run => (worker, Vec::new()),
            Goal::Stop { why } => worker.remove(why, Vec::new()),
        }
    }

    fn recorded(recorded: Recorded, state: State) -> Self {
        let Recorded { name, model, spec, record, stop_reason } = recorded;
        Self {
            name,
            model,
            spec,
            epoch: record.epoch,
            history: History::of(record.exits),
            goal: stop_reason.map_or(Goal::Run, |why| Goal::Stop { why }),
            ended: None,
            state,
        }
    }

    /// Time at which [`Event::DeadlinePassed`] is due; `None` in a state without a deadline.
    pub fn deadline(&self, timers: &Timers) -> Option<Instant> {
        match &self.state {
            State::Spawning { since, .. } => Some(*since + timers.first_word),
            State::Loading { load, .. } => Some(load.deadline(timers)),
            State::Ready { process, liveness, .. } => Some(liveness.deadline(process.claims.is_busy(), timers)),
            State::Suspect { liveness, .. } => Some(liveness.lost_at(timers)),
            State::Draining { deadline, .. } => Some(*deadline),
            State::Stopping { stage: Stage::Terminated { kill_at }, .. } => Some(*kill_at),
            State::Stopping { stage: Stage::Killed { again, .. }, .. } => Some(*again),
            State::Backoff { until } | State::CrashLoop { until, .. } => Some(*until),
            State::Requested { .. } | State::Failed(_) | State::Removed => None,
        }
    }

    /// Process number, while the worker has a process.
    pub fn pid(&self) -> Option<u32> {
        self.process().map(|process| process.pid)
    }

    /// True while the worker takes jobs, as far as is known, so that its health can be checked.
    pub fn serves(&self) -> bool {
        matches!(self.state, State::Ready { .. } | State::Suspect { .. })
    }

    /// Reason why the worker is to stop; `None` while it is to run.
    pub fn stop_reason(&self) -> Option<&str> {
        match &self.goal {
            Goal::Run => None,
            Goal::Stop { why } => Some(why),
        }
    }

    /// The worker's record for the registry.
    pub fn record(&self) -> WorkerRecord {
        let failure = match &self.state {
            State::Failed(failure) | State::CrashLoop { failure, .. } => Some(failure.clone()),
            _ => None,
        };
        WorkerRecord {
            model: self.model.clone(),
            phase: self.phase(),
            epoch: self.epoch,
            pid: self.pid(),
            port: self.process().map(|process| process.port),
            slots: self.spec.slots,
            exits: self.history.exits(),
            limits: None,
            failure,
            spec: Some(self.spec.clone()),
        }
    }

    /// Phase of the worker, as the registry names it.
    pub fn phase(&self) -> WorkerPhase {
        match self.state {
            State::Requested { .. } => WorkerPhase::Requested,
            State::Spawning { .. } => WorkerPhase::Spawning,
            State::Loading { .. } => WorkerPhase::Loading,
            State::Ready { .. } => WorkerPhase::Ready,
            State::Suspect { .. } => WorkerPhase::Suspect,
            State::Draining { .. } => WorkerPhase::Draining,
            State::Stopping { .. } | State::Removed => WorkerPhase::Stopping,
            State::Backoff { .. } => WorkerPhase::Backoff,
            State::CrashLoop { .. } => WorkerPhase::CrashLoop,
            State::Failed(_) => WorkerPhase::Failed,
        }
    }

    fn process(&self) -> Option<&Process> {
        match &self.state {
            State::Spawning { process, .. }
            | State::Loading { process, .. }
            | State::Ready { process, .. }
            | State::Suspect { process, .. }
            | State::Draining { process, .. }
            | State::Stopping { process, .. } => Some(process),
            State::Requested { .. }
            | State::Backoff { .. }
            | State::CrashLoop { .. }
            | State::Failed(_)
            | State::Removed => None,
        }
    }
}

#[cfg(test)]
mod tests;
