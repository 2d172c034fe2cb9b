//! A worker process as the kernel of its machine knows it.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    time::Duration,
};

use rbee_schema::{HiveName, WorkerName};

use crate::runtime::{Process, Signal};

/// Exit status of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exit {
    /// Exit code, if it exited by itself.
    pub code: Option<i32>,
    /// Signal that ended it, if one did.
    pub signal: Option<i32>,
}

/// Something that the kernel reports about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChildNews {
    /// It has ended.
    Ended(Exit),
    /// It was stopped (SIGSTOP).
    Froze,
}

type Watcher = Rc<dyn Fn(ChildNews)>;

struct Inner {
    process: Process,
    worker: (HiveName, WorkerName),
    epoch: u64,
    /// Time since the start of the simulation at which it began.
    begun: Duration,
    /// The process was told to end (SIGTERM).
    terminated: Signal,
    /// True while its engine makes no step.
    is_hung: Cell<bool>,
    /// Number of flows that its dispatcher remembers.
    flows: Cell<usize>,
    watcher: RefCell<Option<(Process, Watcher)>>,
}

/// Worker process; cheap to clone.
#[derive(Clone)]
pub struct Child(Rc<Inner>);

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.process.fmt(f)
    }
}

impl Child {
    pub(super) fn new(process: Process, worker: (HiveName, WorkerName), epoch: u64) -> Self {
        let begun = process.runtime().elapsed();
        Self(Rc::new(Inner {
            begun,
            process,
            worker,
            epoch,
            terminated: Signal::default(),
            is_hung: Cell::new(false),
            flows: Cell::new(0),
            watcher: RefCell::default(),
        }))
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.0.process
    }

    /// Hive and name of the worker.
    pub fn worker(&self) -> &(HiveName, WorkerName) {
        &self.0.worker
    }

    /// Run number of the worker.
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// Time since the start of the simulation at which the process began.
    pub fn begun(&self) -> Duration {
        self.0.begun
    }

    /// Lets the engine hang, or run again.
    pub fn hang(&self, is_hung: bool) {
        self.0.process.log(|| format!("hangs: {is_hung}"));
        self.0.is_hung.set(is_hung);
    }

    /// True while its engine makes no step.
    pub fn is_hung(&self) -> bool {
        self.0.is_hung.get()
    }

    /// Number of flows that its dispatcher remembered when it last listed them.
    pub fn flows(&self) -> usize {
        self.0.flows.get()
    }

    pub(super) fn set_flows(&self, flows: usize) {
        self.0.flows.set(flows);
    }

    /// Tells the process to end (SIGTERM).
    pub(super) fn terminate(&self) {
        self.0.terminated.set();
    }

    pub(super) fn terminated(&self) -> &Signal {
        &self.0.terminated
    }

    /// Lets a hive receive what the kernel reports.
    pub(super) fn watch(&self, hive: &Process, watcher: impl Fn(ChildNews) + 'static) {
        *self.0.watcher.borrow_mut() = Some((hive.clone(), Rc::new(watcher)));
    }

    /// The hive that sees the end of the process at once, if one runs.
    pub(super) fn watched_by(&self) -> Option<Process> {
        let watcher = self.0.watcher.borrow();
        watcher.as_ref().map(|(hive, _)| hive.clone()).filter(|hive| hive.is_alive() && !hive.is_frozen())
    }

    pub(super) fn exited(&self, exit: Exit) {
        self.report(ChildNews::Ended(exit));
    }

    pub(super) fn froze(&self) {
        self.report(ChildNews::Froze);
    }

    fn report(&self, news: ChildNews) {
        let watcher = self.0.watcher.borrow().clone();
        if let Some((_, watcher)) = watcher.filter(|(hive, _)| hive.is_alive()) {
            watcher(news);
        }
    }
}
