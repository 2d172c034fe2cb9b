//! Everything that all processes of a simulation share.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use rbee_hive::decide::rules::Rules;
use rbee_schema::{HiveName, WorkerName, WorkerSettings};

use super::child::{Child, Exit};
use crate::{
    check::{Judge, WorkerEnd},
    network::Network,
    runtime::Runtime,
};

/// Deliberate mistakes in the shells. With each of them, the rules must be found broken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flaws {
    /// Workers append without naming the chunk before.
    pub no_fence: bool,
    /// Hives return jobs also when the server may have delivered them again.
    pub late_naks: bool,
    /// Hives nak each delivery twice, the second time a little later.
    pub naks_twice: bool,
    /// Hives blame jobs for every end of a worker.
    pub blames_always: bool,
    /// Workers acknowledge a job before its last chunk is stored.
    pub acknowledges_first: bool,
    /// Workers start every job that is delivered, whatever their dispatcher says.
    pub ignores_slots: bool,
    /// Hives release the lease of a port when they terminate its worker, not when the worker has ended.
    pub releases_early: bool,
    /// Workers do not look for a cancellation when they receive a job.
    pub ignores_stored_cancels: bool,
}

/// Settings of the simulated fleet.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Settings of workers.
    pub worker: WorkerSettings,
    /// Rules of hives.
    pub hive: Rules,
    /// Redelivery timeout of jobs.
    pub redelivery: Duration,
    /// Time that a worker takes to load its model.
    pub load: Duration,
    /// Workers append the first chunk of a first attempt without reading the output before, and read only if it is refused.
    pub appends_first: bool,
    /// Deliberate mistakes.
    pub flaws: Flaws,
}

/// The surroundings of all processes; cheap to clone.
#[derive(Debug, Clone)]
pub struct Site {
    /// The runtime.
    pub runtime: Runtime,
    /// The network.
    pub network: Network,
    /// The observer.
    pub judge: Judge,
    /// Settings.
    pub settings: Rc<Settings>,
    children: Rc<RefCell<BTreeMap<u64, Child>>>,
    next_attempt: Rc<Cell<u64>>,
}

impl Site {
    /// Surroundings without processes.
    pub fn new(runtime: Runtime, network: Network, judge: Judge, settings: Settings) -> Self {
        Self {
            runtime,
            network,
            judge,
            settings: Rc::new(settings),
            children: Rc::default(),
            next_attempt: Rc::new(Cell::new(1)),
        }
    }

    /// A number for an attempt. None is used twice.
    pub fn next_attempt(&self) -> u64 {
        let next = self.next_attempt.get();
        self.next_attempt.set(next + 1);
        next
    }

    /// Adds a worker process to the process table.
    pub fn add_child(&self, child: Child) {
        self.children.borrow_mut().insert(child.process().number(), child);
    }

    /// Worker processes that live.
    pub fn children(&self) -> Vec<Child> {
        self.children.borrow().values().cloned().collect()
    }

    /// The living process of a run of a worker.
    pub fn child(&self, hive: &HiveName, worker: &WorkerName, epoch: u64) -> Option<Child> {
        let is_it = |child: &&Child| child.worker() == &(hive.clone(), worker.clone()) && child.epoch() == epoch;
        self.children.borrow().values().find(is_it).cloned()
    }

    /// Ends a worker process.
    pub fn end_child(&self, child: &Child, exit: Exit, end: &WorkerEnd) {
        if !child.process().is_alive() {
            return;
        }
        self.runtime.log(|| format!("{:?} ends: {exit:?}, {end:?}", child.process()));
        self.children.borrow_mut().remove(&child.process().number());
        self.judge.worker_ended(child.worker(), child.process(), end, child.watched_by().as_ref());
        self.network.ended(child.process());
        child.process().end();
        child.exited(exit);
    }

    /// Kills a worker process (SIGKILL). A hive that kills a worker with a hung engine has a reason to blame its jobs.
    pub fn kill_child(&self, child: &Child) {
        let end = if child.is_hung() { WorkerEnd::Hung } else { WorkerEnd::Killed };
        self.end_child(child, Exit { code: None, signal: Some(9) }, &end);
    }

    /// Freezes a worker process (SIGSTOP).
    pub fn freeze_child(&self, child: &Child) {
        child.process().freeze();
        self.network.frozen(child.process());
        child.froze();
    }

    /// Lets a worker process run again (SIGCONT).
    pub fn thaw_child(&self, child: &Child) {
        child.process().thaw();
        self.network.thawed(child.process());
    }
}
