//! The life of one worker, as its hive sees it.
//!
//! ```text
//!                              ┌───────── heard again ─────────┐
//!                              ▼                               │
//!  spawn ─▶ Requested ─▶ Spawning ─▶ Loading ─▶ Ready ─ silent ─▶ Suspect
//!              ▲  │         │          │          │               │
//!              │  │refused  │          │          ├─ drain ─▶ Draining
//!              │  ▼         │          │          │               │
//!              │ Failed     └────┬─────┴──────────┴──── stop, hang ─▶ Stopping
//!              │  ▲              ▼                                    │
//!              │  └─ hopeless ─ exit ◀────────────────────────────────┘
//!              │                 │ └── no longer wanted ─▶ Removed
//!              ├── Backoff ◀─────┤
//!              └── CrashLoop ◀───┘
//! ```
//!
//! [`Worker::step`] is the only place that changes a state. Busy and idle are no states: they follow from the jobs.
//! What is heard carries the run (epoch) that said it; what another run said, and what does not fit the state, is told as
//! ignored and never obeyed. An exit is worked off in a fixed order: the jobs go back first, then what is left of the
//! process tree is killed, then the port is free, then the world is told, then it is decided what follows.

mod exit;
mod pulse;
mod step;

use std::time::Instant;

use rbee_schema::{
    Failure, JobInFlight, ModelName, ModelSpec, StopMode, WorkerEvent, WorkerName, WorkerPhase, WorkerRecord,
};

pub use self::exit::Ended;
use self::pulse::Pulse;
use crate::decide::{restart::History, rules::Rules, timers::Timers};

/// A worker and where it is in its life.
#[derive(Debug, Clone)]
pub struct Worker {
    /// Its name.
    pub name: WorkerName,
    /// What it serves.
    pub model: ModelName,
    /// How it is served.
    pub spec: ModelSpec,
    /// Which run this is, from 1.
    pub epoch: u64,
    history: History,
    wish: Wish,
    /// Jobs of earlier runs that were given back: a second time would take them from whoever has them now.
    returned: Vec<JobInFlight>,
    state: State,
}

#[derive(Debug, Clone, PartialEq)]
enum Wish {
    Run,
    End { why: String },
}

/// A live process.
#[derive(Debug, Clone, PartialEq)]
struct Process {
    pid: u32,
    port: u16,
    jobs: Vec<JobInFlight>,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    /// Its model file is fetched, a port is looked for, the process is started. A quick one says its first words before we
    /// know that it runs: they are kept.
    Requested { early: Vec<Event> },
    /// The process runs and has not said a word.
    Spawning { process: Process, since: Instant },
    /// It reads the model.
    Loading { process: Process, load: Load },
    /// It takes jobs.
    Ready { process: Process, since: Instant, pulse: Pulse },
    /// It took jobs, and is silent or frozen.
    Suspect { process: Process, since: Instant, pulse: Pulse, suspected: Instant },
    /// It finishes its jobs and ends.
    Draining { process: Process, deadline: Instant },
    /// It was sent a signal.
    Stopping { process: Process, stage: Stage, because: Because },
    /// It will be started again.
    Backoff { until: Instant },
    /// It ended too often and will be tried once more.
    CrashLoop { until: Instant, failure: Failure },
    /// It will not be started again unless somebody asks.
    Failed(Failure),
    /// It is gone. Nothing happens any more.
    Removed,
}

/// How far a load has come.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Load {
    since: Instant,
    /// When it last moved.
    moved: Instant,
    done_bytes: u64,
    total_bytes: u64,
}

/// Which signal a process was sent last.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// SIGTERM; SIGKILL follows at this moment.
    Terminated { kill_at: Instant },
    /// SIGKILL; it is there still, and is killed once more at this moment.
    Killed { first: Instant, again: Instant },
}

/// Why a process was sent a signal.
#[derive(Debug, Clone, PartialEq)]
enum Because {
    Unwanted,
    NotReadyInTime(String),
    Hangs(String),
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Its process runs and listens on its port.
    Started {
        /// The process.
        pid: u32,
        /// The port.
        port: u16,
    },
    /// It could not be started; nothing is left of the attempt.
    NotStarted(Failure),
    /// It said how far loading has come.
    Loading {
        /// Which run said it.
        epoch: u64,
        /// Bytes read.
        done_bytes: u64,
        /// Bytes to read.
        total_bytes: u64,
    },
    /// It said that it takes jobs.
    Ready {
        /// Which run said it.
        epoch: u64,
    },
    /// It said what it runs. A worker beats from the moment on which it is ready.
    Beat {
        /// Which run said it.
        epoch: u64,
        /// The jobs that it runs.
        jobs: Vec<JobInFlight>,
        /// Steps of its engine so far.
        steps: u64,
    },
    /// Its health was asked over HTTP.
    Health {
        /// Which run was asked.
        epoch: u64,
        /// Whether it answered that it is well.
        well: bool,
    },
    /// The kernel says that its process was stopped (SIGSTOP), and is there.
    Frozen,
    /// It is no longer wanted.
    Stop {
        /// Why, in words.
        why: String,
        /// The way in which the worker is stopped.
        mode: StopMode,
    },
    /// Start it anew, whatever became of it.
    Reset,
    /// Its process ended.
    Exited(Ended),
    /// The moment that [`Worker::deadline`] named has come.
    DeadlinePassed,
    /// The hive could hear nothing for a while, for reasons of its own: silence meanwhile means nothing.
    WasDeaf,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Fetch the model, lease a port, bind it and start a process. Answered by `Started` or `NotStarted`.
    Start,
    /// Tell the process to take no further jobs and to end when it has none.
    Drain,
    /// Send SIGTERM to the process.
    Terminate,
    /// Send SIGKILL to the process and all its children.
    Kill,
    /// Give these jobs back to the queue.
    GiveBack(Vec<JobInFlight>),
    /// Give the port back.
    ReleasePort {
        /// Which.
        port: u16,
        /// Why, in words.
        why: String,
    },
    /// Tell the bus.
    Publish(WorkerEvent),
    /// The worker is gone: drop it.
    Forget,
}

/// What an earlier run of the hive knew of a worker.
#[derive(Debug, Clone)]
pub struct Remembered {
    /// Its name.
    pub name: WorkerName,
    /// What it serves.
    pub model: ModelName,
    /// How it is served.
    pub spec: ModelSpec,
    /// What its record said.
    pub record: WorkerRecord,
    /// Why it was to end, where it was.
    pub unwanted: Option<String>,
}

impl Worker {
    /// A worker that is to be started; carry out the effects.
    pub fn new(name: WorkerName, model: ModelName, spec: ModelSpec) -> (Self, Vec<Effect>) {
        let worker = Self {
            name,
            model,
            spec,
            epoch: 1,
            history: History::default(),
            wish: Wish::Run,
            returned: Vec::new(),
            state: State::Requested { early: Vec::new() },
        };
        (worker, vec![Effect::Start])
    }

    /// A worker of an earlier run of the hive whose process lives.
    pub fn adopt(remembered: Remembered, pid: u32, port: u16, now: Instant, timers: &Timers) -> (Self, Vec<Effect>) {
        let process = Process { pid, port, jobs: Vec::new() };
        let state = match remembered.record.phase {
            WorkerPhase::Ready | WorkerPhase::Suspect => {
                State::Ready { process, since: now, pulse: Pulse::heard(now, 0) }
            }
            WorkerPhase::Draining => State::Draining { process, deadline: now + timers.drain },
            WorkerPhase::Stopping => State::Stopping {
                process,
                stage: Stage::Terminated { kill_at: now + timers.term },
                because: Because::Unwanted,
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
        let worker = Self::remembered(remembered, state);
        let told = WorkerEvent::Adopted { model: worker.model.clone(), epoch: worker.epoch, pid, port };
        (worker, [Effect::Publish(told)].into_iter().chain(again).collect())
    }

    /// A worker of an earlier run of the hive that has no process any more; `port` is what it had.
    pub fn bury(
        remembered: Remembered,
        ended: Ended,
        port: Option<u16>,
        now: Instant,
        rules: &Rules,
    ) -> (Self, Vec<Effect>) {
        let state = match (remembered.record.phase, &remembered.record.failure) {
            (WorkerPhase::Requested | WorkerPhase::Backoff | WorkerPhase::CrashLoop | WorkerPhase::Failed, _)
                if remembered.unwanted.is_some() =>
            {
                let why = remembered.unwanted.clone().unwrap_or_default();
                return Self::remembered(remembered, State::Removed).remove(why, Vec::new());
            }
            (WorkerPhase::Failed, Some(failure)) => State::Failed(failure.clone()),
            (WorkerPhase::CrashLoop, Some(failure)) => {
                State::CrashLoop { until: now + rules.timers.trial, failure: failure.clone() }
            }
            (WorkerPhase::Requested | WorkerPhase::Backoff, _) => State::Backoff { until: now },
            _ => {
                let process =
                    Process { pid: remembered.record.pid.unwrap_or(0), port: port.unwrap_or(0), jobs: vec![] };
                let worker = Self::remembered(remembered, State::Spawning { process, since: now });
                return worker.step(Event::Exited(ended), now, rules);
            }
        };
        (Self::remembered(remembered, state), Vec::new())
    }

    fn remembered(remembered: Remembered, state: State) -> Self {
        let Remembered { name, model, spec, record, unwanted } = remembered;
        Self {
            name,
            model,
            spec,
            epoch: record.epoch,
            history: History::of(record.exits),
            wish: unwanted.map_or(Wish::Run, |why| Wish::End { why }),
            returned: Vec::new(),
            state,
        }
    }

    /// When [`Event::DeadlinePassed`] is due, if it is.
    pub fn deadline(&self, timers: &Timers) -> Option<Instant> {
        match &self.state {
            State::Spawning { since, .. } => Some(*since + timers.first_word),
            State::Loading { load, .. } => Some(load.deadline(timers)),
            State::Ready { process, pulse, .. } => Some(pulse.deadline(!process.jobs.is_empty(), timers)),
            State::Suspect { pulse, .. } => Some(pulse.gone_at(timers)),
            State::Draining { deadline, .. } => Some(*deadline),
            State::Stopping { stage: Stage::Terminated { kill_at }, .. } => Some(*kill_at),
            State::Stopping { stage: Stage::Killed { again, .. }, .. } => Some(*again),
            State::Backoff { until } | State::CrashLoop { until, .. } => Some(*until),
            State::Requested { .. } | State::Failed(_) | State::Removed => None,
        }
    }

    /// Its process, while it has one.
    pub fn pid(&self) -> Option<u32> {
        self.process().map(|process| process.pid)
    }

    /// Whether it takes jobs, as far as is known: its health may be asked.
    pub fn serves(&self) -> bool {
        matches!(self.state, State::Ready { .. } | State::Suspect { .. })
    }

    /// Why it is to end, where it is.
    pub fn unwanted(&self) -> Option<&str> {
        match &self.wish {
            Wish::Run => None,
            Wish::End { why } => Some(why),
        }
    }

    /// What the registry says about it.
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

    /// Where it is in its life.
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
    /// While bytes come, a load is limited by its size alone; what follows the last byte tells no progress.
    fn deadline(&self, timers: &Timers) -> Instant {
        let limit = self.since + timers.load(self.total_bytes);
        let is_read = self.total_bytes > 0 && self.done_bytes >= self.total_bytes;
        if is_read { limit } else { limit.min(self.moved + timers.load_stall) }
    }
}

#[cfg(test)]
mod tests;
