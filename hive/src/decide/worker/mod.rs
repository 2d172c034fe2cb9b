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

mod exit;
mod liveness;
mod process_exit;
mod step;

use std::time::Instant;

use rbee_schema::{
    Failure, JobInFlight, ModelName, ModelSpec, StopMode, WorkerEvent, WorkerName, WorkerPhase, WorkerRecord,
};

use self::liveness::Liveness;
pub use self::process_exit::ProcessExit;
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
    /// Jobs of the last run that were returned to the queue. Returning one twice would take it from its next worker.
    returned: Vec<JobInFlight>,
    state: State,
}

/// The desired end of the worker's life.
#[derive(Debug, Clone, PartialEq)]
enum Goal {
    Run,
    Stop { why: String },
}

/// A process that has not exited, as far as is known.
#[derive(Debug, Clone, PartialEq)]
struct Process {
    pid: u32,
    port: u16,
    jobs: Vec<JobInFlight>,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    /// The model file is fetched, a port is leased, the process is started. Messages of a process that is quicker than the
    /// notice of its start are kept.
    Requested { early: Vec<Event> },
    /// The process runs and has sent no message yet.
    Spawning { process: Process, since: Instant },
    /// The process reads the model.
    Loading { process: Process, load: Load },
    /// The worker takes jobs.
    Ready { process: Process, since: Instant, liveness: Liveness },
    /// The worker took jobs; now it sends no heartbeat, or is frozen.
    Suspect { process: Process, since: Instant, liveness: Liveness, suspected: Instant },
    /// The worker finishes its jobs and exits.
    Draining { process: Process, deadline: Instant },
    /// The process was sent a signal.
    Stopping { process: Process, stage: Stage, cause: StopCause },
    /// The worker is restarted at this time.
    Backoff { until: Instant },
    /// The worker exited too often. It is tried once more at this time.
    CrashLoop { until: Instant, failure: Failure },
    /// The worker is not started again unless a command resets it.
    Failed(Failure),
    /// The worker is gone. No event changes anything any more.
    Removed,
}

/// Progress of a load.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Load {
    since: Instant,
    /// Time of the last progress.
    moved: Instant,
    done_bytes: u64,
    total_bytes: u64,
}

/// Last signal that a process was sent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// SIGTERM. SIGKILL follows at this time.
    Terminated { kill_at: Instant },
    /// SIGKILL. A process that is still there is sent another at this time.
    Killed { first: Instant, again: Instant },
}

/// Cause of a signal.
#[derive(Debug, Clone, PartialEq)]
enum StopCause {
    Requested,
    NotReadyInTime(String),
    Hung(String),
}

/// Something that happened to a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The process runs and listens on its port.
    Started {
        /// Process number.
        pid: u32,
        /// Leased port.
        port: u16,
    },
    /// The worker could not be started. Nothing is left of the attempt.
    NotStarted(Failure),
    /// The worker reported progress of its load.
    Loading {
        /// Run that reported it.
        epoch: u64,
        /// Bytes read.
        done_bytes: u64,
        /// Bytes to read.
        total_bytes: u64,
    },
    /// The worker reported that it takes jobs.
    Ready {
        /// Run that reported it.
        epoch: u64,
    },
    /// The worker sent a heartbeat. It does so from the time when it is ready.
    Heartbeat {
        /// Run that sent it.
        epoch: u64,
        /// Jobs in flight.
        jobs: Vec<JobInFlight>,
        /// Steps of the engine so far.
        steps: u64,
    },
    /// The worker's health was checked over HTTP.
    Health {
        /// Run that was checked.
        epoch: u64,
        /// True where the worker answered that it is healthy.
        healthy: bool,
    },
    /// The kernel reports that the process was stopped (SIGSTOP).
    Frozen,
    /// The worker is to stop.
    Stop {
        /// Reason, for people.
        why: String,
        /// Treatment of its jobs.
        mode: StopMode,
    },
    /// The worker is to be started, even after a failure.
    Reset,
    /// The process exited.
    Exited(ProcessExit),
    /// The time of [`Worker::deadline`] has come.
    DeadlinePassed,
    /// For a while the hive could receive nothing, for reasons of its own. Missing heartbeats meant nothing.
    ObservationGap,
}

/// Something to do for a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Fetch the model, lease a port, bind it and start a process. Answered by `Started` or `NotStarted`.
    Start,
    /// Ask the process to take no further jobs, and to exit when it has none.
    Drain,
    /// Send SIGTERM to the process.
    Terminate,
    /// Send SIGKILL to the process and all its descendants.
    Kill,
    /// Return these jobs to the queue.
    ReturnJobs(Vec<JobInFlight>),
    /// Release the lease of the port.
    ReleasePort {
        /// Port number.
        port: u16,
        /// Reason, for people.
        why: String,
    },
    /// Publish an event.
    Publish(WorkerEvent),
    /// Drop the worker: it is gone.
    Forget,
}

/// A worker as an earlier run of the hive recorded it.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Name of the worker.
    pub name: WorkerName,
    /// Model that the worker serves.
    pub model: ModelName,
    /// Declaration of the model.
    pub spec: ModelSpec,
    /// Last record.
    pub record: WorkerRecord,
    /// Reason to stop; `None` while the worker is to run.
    pub stop_reason: Option<String>,
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
            returned: Vec::new(),
            state: State::Requested { early: Vec::new() },
        };
        (worker, vec![Effect::Start])
    }

    /// A worker of an earlier run of the hive whose process still runs.
    pub fn adopt(recorded: Recorded, pid: u32, port: u16, now: Instant, timers: &Timers) -> (Self, Vec<Effect>) {
        let process = Process { pid, port, jobs: Vec::new() };
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
                let process = Process { pid, port, jobs: Vec::new() };
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
            returned: Vec::new(),
            state,
        }
    }

    /// Time at which [`Event::DeadlinePassed`] is due; `None` in a state without a deadline.
    pub fn deadline(&self, timers: &Timers) -> Option<Instant> {
        match &self.state {
            State::Spawning { since, .. } => Some(*since + timers.first_word),
            State::Loading { load, .. } => Some(load.deadline(timers)),
            State::Ready { process, liveness, .. } => Some(liveness.deadline(!process.jobs.is_empty(), timers)),
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

impl Load {
    /// Latest end of the load. While bytes are read, both the size and the time without progress limit it. What follows
    /// the last byte reports no progress, so only the size does.
    fn deadline(&self, timers: &Timers) -> Instant {
        let limit = self.since + timers.load(self.total_bytes);
        let is_read = self.total_bytes > 0 && self.done_bytes >= self.total_bytes;
        if is_read { limit } else { limit.min(self.moved + timers.load_stall) }
    }
}

#[cfg(test)]
mod tests;
