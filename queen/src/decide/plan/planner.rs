//! State of one planning pass: the actions so far, and the fleet as they will leave it.

use std::{collections::BTreeSet, time::Instant};

use rbee_schema::{Failure, JobClass, ModelName, ModelSpec, StopMode};

use super::action::{Action, NewWorker, Plan};
use crate::decide::{
    fleet::{Fleet, WorkerKey},
    overlay::Overlay,
    place::{NoPlacement, Placement, place},
};

/// A planning pass.
pub(super) struct Planner<'a> {
    overlay: Overlay<'a>,
    now: Instant,
    plan: Plan,
}

impl<'a> Planner<'a> {
    pub(super) fn new(fleet: &'a Fleet, now: Instant) -> Self {
        Self { overlay: Overlay::new(fleet), now, plan: Plan { actions: Vec::new(), pending: BTreeSet::new() } }
    }

    pub(super) fn fleet(&self) -> &'a Fleet {
        self.overlay.fleet()
    }

    /// The fleet with the actions so far on top.
    pub(super) fn overlay(&self) -> &Overlay<'a> {
        &self.overlay
    }

    pub(super) fn now(&self) -> Instant {
        self.now
    }

    pub(super) fn action_count(&self) -> usize {
        self.plan.actions.len()
    }

    /// Plans a worker on the best hive.
    pub(super) fn spawn(&mut self, model: &'a ModelName, spec: &'a ModelSpec, why: &str) -> Result<(), NoPlacement> {
        let Placement { hive, why: why_there } = place(&self.overlay, model, spec, self.now)?;
        self.overlay.add_spawn(hive, model);
        let why = format!("{why}; {why_there}");
        let worker = NewWorker { model: model.clone(), spec: spec.clone(), hive: hive.clone(), why };
        self.plan.actions.push(Action::Spawn(worker));
        Ok(())
    }

    /// Plans to drain and stop a worker.
    pub(super) fn stop(&mut self, worker: &'a WorkerKey, why: String) {
        self.stop_in(StopMode::Drain, worker, why);
    }

    /// Plans to stop a worker that finishes its jobs first.
    pub(super) fn stop_when_finished(&mut self, worker: &'a WorkerKey, why: String) {
        self.stop_in(StopMode::Finish, worker, why);
    }

    fn stop_in(&mut self, mode: StopMode, worker: &'a WorkerKey, why: String) {
        self.overlay.add_stop(worker);
        self.plan.actions.push(Action::Stop { worker: worker.clone(), mode, why });
    }

    /// Plans to answer the waiting jobs of a model and class with a failure; `None` for all classes. Jobs that a worker of a lost
    /// hive answers are left to it.
    pub(super) fn refuse(&mut self, model: &ModelName, class: Option<JobClass>, failure: Failure) {
        if self.fleet().is_answered(model, self.now()) {
            return;
        }
        self.plan.actions.push(Action::Refuse { model: model.clone(), class, failure });
    }

    /// Plans to report a model that no hive can run.
    pub(super) fn report_unplaceable(&mut self, model: &ModelName, failure: Failure) {
        self.plan.actions.push(Action::ReportUnplaceable { model: model.clone(), failure });
    }

    /// Marks a model for which something is left to be done.
    pub(super) fn mark_pending(&mut self, model: &ModelName) {
        if !self.plan.pending.contains(model) {
            self.plan.pending.insert(model.clone());
        }
    }

    pub(super) fn finish(self) -> Plan {
        self.plan
    }
}
