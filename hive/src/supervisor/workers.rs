//! All workers of this hive, and the questions that concern them together.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    time::Instant,
};

use rbee_schema::{WorkerName, WorkerPhase};

use super::managed::ManagedWorker;
use crate::{count, decide::timers::Timers};

/// The workers by name.
#[derive(Default)]
pub(super) struct Workers(BTreeMap<WorkerName, ManagedWorker>);

impl Workers {
    pub(super) fn names(&self) -> Vec<WorkerName> {
        self.0.keys().cloned().collect()
    }

    pub(super) fn count(&self) -> u32 {
        count::capped(self.0.len())
    }

    /// Number of workers with a process.
    pub(super) fn running(&self) -> u32 {
        count::capped(self.0.values().filter(|managed| managed.run.is_some()).count())
    }

    pub(super) fn phases(&self) -> impl Iterator<Item = WorkerPhase> {
        self.0.values().map(|managed| managed.worker.phase())
    }

    /// Number of workers in a crash loop.
    pub(super) fn crash_looping(&self) -> usize {
        self.phases().filter(|phase| *phase == WorkerPhase::CrashLoop).count()
    }

    /// Number of workers that are admitted, without `except`.
    pub(super) fn admitted(&self, except: &WorkerName) -> u32 {
        let others = self.0.iter().filter(|(name, managed)| *name != except && managed.need.is_some());
        count::capped(others.count())
    }

    /// Memory reserved for workers that they do not use yet, in bytes, without that of `except`.
    pub(super) fn memory_reserved(&self, except: Option<&WorkerName>) -> u64 {
        let others = self.0.iter().filter(|(name, _)| Some(*name) != except);
        others.map(|(_, managed)| managed.memory_unused()).sum()
    }

    /// Earliest deadline of any worker.
    pub(super) fn next_deadline(&self, timers: &Timers) -> Option<Instant> {
        self.0.values().filter_map(|managed| managed.worker.deadline(timers)).min()
    }

    /// Workers whose deadline has passed.
    pub(super) fn overdue(&self, now: Instant, timers: &Timers) -> Vec<WorkerName> {
        self.select(|managed| managed.worker.deadline(timers).is_some_and(|deadline| deadline <= now))
    }

    /// Workers whose process was stopped (SIGSTOP) since the last call.
    pub(super) fn frozen(&self) -> Vec<WorkerName> {
        self.select(|managed| managed.run.as_ref().is_some_and(|run| run.process.was_stopped()))
    }

    fn select(&self, is_selected: impl Fn(&ManagedWorker) -> bool) -> Vec<WorkerName> {
        self.0.iter().filter(|(_, managed)| is_selected(managed)).map(|(name, _)| name.clone()).collect()
    }
}

impl Deref for Workers {
    type Target = BTreeMap<WorkerName, ManagedWorker>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Workers {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}
