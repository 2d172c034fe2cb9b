//! The life of one worker, as its hive sees it.
//!
//! ```text
//!  spawn ─▶ Starting ─▶ Spawning ─▶ Loading ─▶ Ready ─▶ Draining ─▶ Stopping ─▶ (removed)
//!              ▲  │         │          │         │          │           │
//!              │  └refused  └──────────┴────┬────┴──────────┴───────────┘ exit
//!              │      ▼                     ▼
//!           Backoff  Failed ◀── hopeless ── exit ── wanted gone ──▶ (removed)
//!              ▲                            │
//!              └────────── restart ─────────┘
//! ```
//!
//! [`Worker::step`] is the only place that changes a state. Busy and idle are no states: they follow from the jobs.
//! An exit is worked off in a fixed order: the jobs go back first, then what is left of the process tree is killed, then
//! the port is free, then the world is told, then it is decided what follows.

use std::time::{Duration, Instant};

use rbee_schema::{
    ExitClass, Failure, FailureCode, JobInFlight, ModelName, ModelSpec, WorkerEvent, WorkerName, WorkerPhase,
    WorkerRecord,
};

use crate::decide::restart::{AfterExit, STABLE_RUN, after_exit};

/// A process that has not said a word for this long after its start never will. It says the first before it loads.
const FIRST_WORD: Duration = Duration::from_secs(20);

/// A load that makes no progress for this long has stalled. A slow one goes on for as long as it moves.
const LOAD_STALL: Duration = Duration::from_secs(30);

/// From SIGTERM to SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(10);

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
    /// Unwanted exits in a row, without a stable run between them.
    exits: u32,
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
    /// A port is looked for and the process is started.
    Starting,
    /// The process runs and has not said a word.
    Spawning { process: Process, deadline: Instant },
    /// It reads the model.
    Loading { process: Process, deadline: Instant },
    /// It takes jobs.
    Ready { process: Process, since: Instant },
    /// It finishes its jobs and ends.
    Draining { process: Process, deadline: Instant },
    /// It was sent a signal.
    Stopping { process: Process, kill_at: Option<Instant>, because: Because },
    /// It will be started again.
    Backoff { until: Instant },
    /// It will not.
    Failed(Failure),
    /// It is gone. Nothing happens any more.
    Removed,
}

/// Why a process was sent a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Because {
    Unwanted,
    NotReadyInTime,
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
    },
    /// It said that it takes jobs.
    Ready {
        /// Which run said it.
        epoch: u64,
    },
    /// It said what it runs.
    Beat {
        /// Which run said it.
        epoch: u64,
        /// The jobs that it runs.
        jobs: Vec<JobInFlight>,
    },
    /// It is no longer wanted.
    Stop {
        /// Why, in words.
        why: String,
        /// How long it may finish its jobs.
        drain: Duration,
    },
    /// Its process ended.
    Exited {
        /// The exit code, where it had one.
        code: Option<i32>,
        /// The signal that ended it, where one did.
        signal: Option<i32>,
        /// The last lines that it wrote.
        tail: Vec<String>,
    },
    /// The moment that [`Worker::deadline`] named has come.
    DeadlinePassed,
    /// The bus was away and is back: silence meanwhile means nothing.
    BusBack,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Lease a port, bind it and start a process. Answered by `Started` or `NotStarted`.
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

impl Worker {
    /// A worker that is to be started; carry out the effects.
    pub fn new(name: WorkerName, model: ModelName, spec: ModelSpec) -> (Self, Vec<Effect>) {
        let worker = Self {
            name,
            model,
            spec,
            epoch: 1,
            exits: 0,
            wish: Wish::Run,
            returned: Vec::new(),
            state: State::Starting,
        };
        (worker, vec![Effect::Start])
    }

    /// When [`Event::DeadlinePassed`] is due, if it is.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Spawning { deadline, .. } | State::Loading { deadline, .. } | State::Draining { deadline, .. } => {
                Some(*deadline)
            }
            State::Stopping { kill_at, .. } => *kill_at,
            State::Backoff { until } => Some(*until),
            State::Starting | State::Ready { .. } | State::Failed(_) | State::Removed => None,
        }
    }

    /// Its process, while it has one.
    pub fn pid(&self) -> Option<u32> {
        self.process().map(|process| process.pid)
    }

    /// What the registry says about it.
    pub fn record(&self) -> WorkerRecord {
        let failure = match &self.state {
            State::Failed(failure) => Some(failure.clone()),
            _ => None,
        };
        WorkerRecord {
            model: self.model.clone(),
            phase: self.phase(),
            epoch: self.epoch,
            pid: self.pid(),
            port: self.process().map(|process| process.port),
            slots: self.spec.slots,
            failure,
        }
    }

    fn phase(&self) -> WorkerPhase {
        match self.state {
            State::Starting => WorkerPhase::Requested,
            State::Spawning { .. } => WorkerPhase::Spawning,
            State::Loading { .. } => WorkerPhase::Loading,
            State::Ready { .. } => WorkerPhase::Ready,
            State::Draining { .. } => WorkerPhase::Draining,
            State::Stopping { .. } | State::Removed => WorkerPhase::Stopping,
            State::Backoff { .. } => WorkerPhase::Backoff,
            State::Failed(_) => WorkerPhase::Failed,
        }
    }

    fn process(&self) -> Option<&Process> {
        match &self.state {
            State::Spawning { process, .. }
            | State::Loading { process, .. }
            | State::Ready { process, .. }
            | State::Draining { process, .. }
            | State::Stopping { process, .. } => Some(process),
            State::Starting | State::Backoff { .. } | State::Failed(_) | State::Removed => None,
        }
    }

    /// What becomes of the worker when `event` happens, and what is to be done about it.
    pub fn step(mut self, event: Event, now: Instant) -> (Self, Vec<Effect>) {
        let state = std::mem::replace(&mut self.state, State::Removed);
        match (state, event) {
            (State::Removed, _) => (self, Vec::new()),
            (state, Event::Beat { epoch, jobs }) => self.heard_beat(state, epoch, jobs),
            (state, Event::Loading { epoch } | Event::Ready { epoch }) if epoch != self.epoch => {
                self.ignore(state, &format!("a word of run {epoch}"))
            }

            (State::Starting, Event::Started { pid, port }) => self.started(Process { pid, port, jobs: vec![] }, now),
            (State::Starting, Event::NotStarted(failure)) => match self.wish.clone() {
                Wish::Run => self.fail(failure, Vec::new()),
                Wish::End { why } => self.remove(why, Vec::new()),
            },
            (State::Starting, Event::Stop { why, .. }) => {
                self.wish = Wish::End { why };
                self.stay(State::Starting)
            }

            (State::Spawning { process, .. } | State::Loading { process, .. }, Event::Loading { .. }) => {
                self.stay(State::Loading { process, deadline: now + LOAD_STALL })
            }
            (State::Spawning { process, .. } | State::Loading { process, .. }, Event::Ready { .. }) => {
                self.stay(State::Ready { process, since: now })
            }
            (State::Spawning { process, .. }, Event::BusBack) => {
                self.stay(State::Spawning { process, deadline: now + FIRST_WORD })
            }
            (State::Loading { process, .. }, Event::BusBack) => {
                self.stay(State::Loading { process, deadline: now + LOAD_STALL })
            }
            (State::Spawning { process, .. }, Event::DeadlinePassed) => {
                self.kill(process, Because::NotReadyInTime, format!("not a word for {FIRST_WORD:?} after its start"))
            }
            (State::Loading { process, .. }, Event::DeadlinePassed) => {
                self.kill(process, Because::NotReadyInTime, format!("no progress in loading for {LOAD_STALL:?}"))
            }
            (State::Spawning { process, .. } | State::Loading { process, .. }, Event::Stop { why, .. }) => {
                self.wish = Wish::End { why: why.clone() };
                self.terminate(process, why, now)
            }

            (State::Ready { process, .. }, Event::Stop { why, drain }) => {
                self.wish = Wish::End { why: why.clone() };
                self.state = State::Draining { process, deadline: now + drain };
                (self, vec![Effect::Drain, Effect::Publish(WorkerEvent::Draining { why })])
            }

            (State::Draining { process, .. }, Event::DeadlinePassed) => {
                self.terminate(process, "its time to finish jobs is over".to_owned(), now)
            }
            (State::Draining { process, deadline }, Event::Stop { drain, .. }) => {
                self.stay(State::Draining { process, deadline: deadline.min(now + drain) })
            }

            (State::Stopping { process, because, .. }, Event::DeadlinePassed) => {
                let why = format!("it did not end within {TERM_GRACE:?} of SIGTERM");
                self.kill(process, because, why)
            }
            (State::Stopping { process, kill_at, because }, Event::Stop { why, .. }) => {
                self.wish = Wish::End { why };
                self.stay(State::Stopping { process, kill_at, because })
            }

            (State::Spawning { process, .. }, Event::Exited { code, signal, tail })
            | (State::Loading { process, .. }, Event::Exited { code, signal, tail })
            | (State::Draining { process, .. }, Event::Exited { code, signal, tail }) => {
                let class = self.classify(None, code, signal);
                self.exited(process, class, (code, signal), tail, now)
            }
            (State::Ready { process, since }, Event::Exited { code, signal, tail }) => {
                if now >= since + STABLE_RUN {
                    self.exits = 0;
                }
                let class = self.classify(None, code, signal);
                self.exited(process, class, (code, signal), tail, now)
            }
            (State::Stopping { process, because, .. }, Event::Exited { code, signal, tail }) => {
                let class = self.classify(Some(because), code, signal);
                self.exited(process, class, (code, signal), tail, now)
            }

            (State::Backoff { .. }, Event::DeadlinePassed) => {
                self.epoch += 1;
                self.state = State::Starting;
                (self, vec![Effect::Start])
            }
            (State::Backoff { .. } | State::Failed(_), Event::Stop { why, .. }) => self.remove(why, Vec::new()),

            (state, Event::BusBack) => self.stay(state),
            (state, event) => self.ignore(state, &format!("{event:?}")),
        }
    }

    fn stay(mut self, state: State) -> (Self, Vec<Effect>) {
        self.state = state;
        (self, Vec::new())
    }

    fn ignore(mut self, state: State, heard: &str) -> (Self, Vec<Effect>) {
        self.state = state;
        let state = self.phase().as_str().to_owned();
        (self, vec![Effect::Publish(WorkerEvent::Ignored { heard: heard.to_owned(), state })])
    }

    fn started(mut self, process: Process, now: Instant) -> (Self, Vec<Effect>) {
        let spawned = Effect::Publish(WorkerEvent::Spawned {
            model: self.model.clone(),
            epoch: self.epoch,
            pid: process.pid,
            port: process.port,
        });
        match self.wish.clone() {
            Wish::Run => {
                self.state = State::Spawning { process, deadline: now + FIRST_WORD };
                (self, vec![spawned])
            }
            Wish::End { why } => {
                let (worker, mut effects) = self.terminate(process, why, now);
                effects.insert(0, spawned);
                (worker, effects)
            }
        }
    }

    fn heard_beat(mut self, mut state: State, epoch: u64, jobs: Vec<JobInFlight>) -> (Self, Vec<Effect>) {
        let alive = match &mut state {
            State::Spawning { process, .. }
            | State::Loading { process, .. }
            | State::Ready { process, .. }
            | State::Draining { process, .. }
            | State::Stopping { process, .. }
                if epoch == self.epoch =>
            {
                Some(process)
            }
            _ => None,
        };
        match alive {
            Some(process) => {
                process.jobs = jobs;
                self.state = state;
                (self, Vec::new())
            }
            // The last words of a run that has ended: what it took in its last moment goes back too.
            None => {
                self.state = state;
                let late: Vec<_> = jobs.into_iter().filter(|job| !self.returned.contains(job)).collect();
                if late.is_empty() {
                    return (self, Vec::new());
                }
                self.returned.extend(late.iter().cloned());
                (self, vec![Effect::GiveBack(late)])
            }
        }
    }

    fn terminate(mut self, process: Process, why: String, now: Instant) -> (Self, Vec<Effect>) {
        self.state = State::Stopping { process, kill_at: Some(now + TERM_GRACE), because: Because::Unwanted };
        (self, vec![Effect::Terminate, Effect::Publish(WorkerEvent::Stopping { why })])
    }

    fn kill(mut self, process: Process, because: Because, why: String) -> (Self, Vec<Effect>) {
        self.state = State::Stopping { process, kill_at: None, because };
        (self, vec![Effect::Kill, Effect::Publish(WorkerEvent::Stopping { why })])
    }

    fn classify(&self, because: Option<Because>, code: Option<i32>, signal: Option<i32>) -> ExitClass {
        match (because, &self.wish, code, signal) {
            (Some(Because::NotReadyInTime), ..) => ExitClass::ReadyTimeout,
            (_, Wish::End { .. }, ..) => ExitClass::Clean,
            // The codes of sysexits.h.
            (_, _, Some(0), _) => ExitClass::Clean,
            (_, _, Some(65), _) => ExitClass::Data,
            (_, _, Some(77), _) => ExitClass::Permission,
            (_, _, Some(78), _) => ExitClass::Config,
            (_, _, _, Some(_)) => ExitClass::Signal,
            (_, _, _, None) => ExitClass::Other,
        }
    }

    fn exited(
        mut self,
        process: Process,
        class: ExitClass,
        (code, signal): (Option<i32>, Option<i32>),
        tail: Vec<String>,
        now: Instant,
    ) -> (Self, Vec<Effect>) {
        let Process { pid, port, jobs } = process;
        let mut effects = Vec::new();
        if !jobs.is_empty() {
            effects.push(Effect::GiveBack(jobs.clone()));
        }
        effects.push(Effect::Kill);
        effects.push(Effect::ReleasePort { port, why: format!("process {pid} of worker {} ended", self.name) });
        effects.push(Effect::Publish(WorkerEvent::Exited {
            model: self.model.clone(),
            epoch: self.epoch,
            class,
            code,
            signal,
            jobs_returned: u32::try_from(jobs.len()).unwrap_or(u32::MAX),
            stderr_tail: tail.clone(),
        }));
        self.returned = jobs;
        if let Wish::End { why } = self.wish.clone() {
            return self.remove(why, effects);
        }
        self.exits += 1;
        match after_exit(class, self.exits, &tail) {
            AfterExit::Restart { delay, why } => {
                let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                effects.push(Effect::Publish(WorkerEvent::Restarting { epoch: self.epoch + 1, delay_ms, why }));
                self.state = State::Backoff { until: now + delay };
                (self, effects)
            }
            AfterExit::GiveUp(failure) => self.fail(failure, effects),
        }
    }

    fn fail(mut self, failure: Failure, mut effects: Vec<Effect>) -> (Self, Vec<Effect>) {
        effects.push(Effect::Publish(WorkerEvent::Failed { model: self.model.clone(), failure: failure.clone() }));
        self.state = State::Failed(failure);
        (self, effects)
    }

    fn remove(mut self, why: String, mut effects: Vec<Effect>) -> (Self, Vec<Effect>) {
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

#[cfg(test)]
mod tests;
