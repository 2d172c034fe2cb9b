//! Models that must be planned again. A fleet of thousands of workers changes a hundred times a second, and each change
//! concerns one model.
//!
//! The plan for a model depends on its own workers, jobs and declaration, on the hives, and on time. A change of a worker or
//! of jobs marks its model; a change of a hive marks everything. A model for which something is left to be done is pending,
//! and is planned again whenever room may have been freed. Time alone is handled by passes over everything: the first
//! heartbeat that can be missed is never more than seconds away.

use std::collections::BTreeSet;

use rbee_schema::ModelName;

/// Changes since the last planning pass.
#[derive(Debug, Clone, Default)]
pub struct Dirty {
    everything: bool,
    models: BTreeSet<ModelName>,
    /// A hive may have more room than at the last pass.
    room: bool,
    /// Models for which the last pass left something to be done.
    pending: BTreeSet<ModelName>,
}

/// Scope of a planning pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All models, and everything that depends on time.
    Everything,
    /// These models.
    Models(BTreeSet<ModelName>),
}

impl Dirty {
    /// Marks everything.
    pub fn mark_everything(&mut self) {
        self.everything = true;
    }

    /// Marks one model.
    pub fn mark_model(&mut self, model: &ModelName) {
        if !self.everything && !self.models.contains(model) {
            self.models.insert(model.clone());
        }
    }

    /// Marks the pending models, because a worker left room or may be preempted.
    pub fn mark_room(&mut self) {
        self.room = true;
    }

    /// True if nothing must be planned.
    pub fn is_empty(&self) -> bool {
        let may_place_pending = self.room && !self.pending.is_empty();
        !self.everything && self.models.is_empty() && !may_place_pending
    }

    /// Takes the scope of the next pass and clears the marks.
    pub fn take(&mut self) -> Scope {
        let (everything, room) = (std::mem::take(&mut self.everything), std::mem::take(&mut self.room));
        let mut models = std::mem::take(&mut self.models);
        if everything {
            return Scope::Everything;
        }
        if room {
            models.extend(self.pending.iter().cloned());
        }
        Scope::Models(models)
    }

    /// Records that `scope` was planned and left something to be done for the models `pending`.
    pub fn planned(&mut self, scope: &Scope, pending: BTreeSet<ModelName>) {
        match scope {
            Scope::Everything => self.pending = pending,
            Scope::Models(models) => {
                self.pending.retain(|model| !models.contains(model));
                self.pending.extend(pending);
            }
        }
    }
}

impl Scope {
    /// True if the scope includes a model.
    pub fn has(&self, model: &ModelName) -> bool {
        match self {
            Self::Everything => true,
            Self::Models(models) => models.contains(model),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;
    use rbee_schema::{FailureCode, HiveRecord, ModelSpec, Replicas, WorkerPhase, WorkerRecord};

    use super::*;
    use crate::decide::{
        fixture::{beat, draining, failed, hive, key, leaves, name, record, spec},
        fleet::Fleet,
        plan::{Action, NewWorker, Plan, plan},
    };

    fn models(names: &[&str]) -> Scope {
        Scope::Models(names.iter().map(|model| name(model)).collect())
    }

    #[test]
    fn marked_models_are_planned_once() {
        let mut dirty = Dirty::default();
        assert!(dirty.is_empty());
        dirty.mark_model(&name("m"));
        assert!(!dirty.is_empty());
        assert_eq!(dirty.take(), models(&["m"]));
        assert!(dirty.is_empty());
        dirty.mark_model(&name("m"));
        dirty.mark_everything();
        assert_eq!(dirty.take(), Scope::Everything);
        assert!(dirty.is_empty());
    }

    #[test]
    fn pending_models_are_planned_when_room_is_freed() {
        let mut dirty = Dirty::default();
        dirty.mark_room();
        assert!(dirty.is_empty(), "no model is pending");
        dirty.planned(&Scope::Everything, [name("m")].into());
        assert_eq!(dirty.take(), models(&["m"]));
        dirty.mark_model(&name("n"));
        assert_eq!(dirty.take(), models(&["n"]), "no room was freed since");
        dirty.planned(&models(&["m"]), BTreeSet::new());
        dirty.mark_room();
        assert!(dirty.is_empty(), "nothing is pending any more");
    }

    /// An input to a fleet of two hives, three workers and two models.
    #[derive(Debug, Clone)]
    enum Input {
        HiveRegistered(&'static str, HiveRecord),
        HiveKeyRemoved(&'static str),
        HiveLeft(&'static str),
        WorkerUpdated(&'static str, &'static str, WorkerRecord),
        WorkerRemoved(&'static str, &'static str),
        WorkerHeartbeat(&'static str, &'static str, usize),
        ModelDeclared(&'static str, u32, u32),
        ModelWithdrawn(&'static str),
        JobQueued(&'static str),
        QueueCounted(&'static str, u64),
    }

    fn input() -> impl Strategy<Value = Input> {
        let hives = || prop::sample::select(vec!["a", "b"]);
        let workers = || prop::sample::select(vec!["v", "w", "x"]);
        let models = || prop::sample::select(vec!["m", "n"]);
        let small = HiveRecord { max_workers: Some(1), ..hive() };
        let hive_record = prop::sample::select(vec![hive(), draining(), small]);
        let phases = [WorkerPhase::Loading, WorkerPhase::Ready, WorkerPhase::Backoff, WorkerPhase::Stopping];
        let worker_record = (prop::sample::select(phases.to_vec()), models())
            .prop_map(|(phase, model)| WorkerRecord { model: name(model), ..record(phase) });
        let failures = [FailureCode::MemoryShort, FailureCode::ModelMissing, FailureCode::OutOfMemory];
        let failed = prop::sample::select(failures.to_vec()).prop_map(failed);
        prop_oneof![
            (hives(), hive_record).prop_map(|(at, record)| Input::HiveRegistered(at, record)),
            hives().prop_map(Input::HiveKeyRemoved),
            hives().prop_map(Input::HiveLeft),
            (hives(), workers(), worker_record)
                .prop_map(|(at, worker, record)| Input::WorkerUpdated(at, worker, record)),
            (hives(), workers(), failed).prop_map(|(at, worker, record)| Input::WorkerUpdated(at, worker, record)),
            (hives(), workers()).prop_map(|(at, worker)| Input::WorkerRemoved(at, worker)),
            (hives(), workers(), 0..3_usize).prop_map(|(at, worker, jobs)| Input::WorkerHeartbeat(at, worker, jobs)),
            (models(), 0..3_u32, 1..3_u32).prop_map(|(model, min, more)| Input::ModelDeclared(model, min, min + more)),
            models().prop_map(Input::ModelWithdrawn),
            models().prop_map(Input::JobQueued),
            (models(), 0..3_u64).prop_map(|(model, depth)| Input::QueueCounted(model, depth)),
        ]
    }

    fn apply(fleet: &mut Fleet, input: Input, now: Instant) {
        match input {
            Input::HiveRegistered(at, record) => {
                fleet.hive_registered(name(at), record, now);
            }
            Input::HiveKeyRemoved(at) => fleet.hive_key_removed(&name(at)),
            Input::HiveLeft(at) => {
                leaves(fleet, at);
            }
            // A worker serves one model all its life.
            Input::WorkerUpdated(at, worker, record) => {
                let known = fleet.worker(&key(at, worker)).map(|known| known.record.model.clone());
                let model = known.unwrap_or_else(|| record.model.clone());
                fleet.worker_updated(key(at, worker), WorkerRecord { model, ..record }, now);
            }
            Input::WorkerRemoved(at, worker) => {
                fleet.worker_removed(&key(at, worker));
            }
            Input::WorkerHeartbeat(at, worker, jobs) => {
                fleet.worker_heartbeat(&key(at, worker), beat(jobs), now);
            }
            Input::ModelDeclared(model, min, max) => {
                fleet.model_declared(name(model), ModelSpec { replicas: Replicas { min, max }, ..spec() });
            }
            Input::ModelWithdrawn(model) => fleet.model_withdrawn(&name(model)),
            Input::JobQueued(model) => fleet.job_queued(&name(model), now),
            Input::QueueCounted(model, depth) => fleet.queue_counted(&name(model), depth, now, now),
        }
    }

    /// Plans what is marked and applies the plan, until nothing is marked.
    fn settle(fleet: &mut Fleet, spawned: &mut u32, now: Instant) {
        for _ in 0..100 {
            if !fleet.needs_planning() {
                return;
            }
            let scope = fleet.take_scope();
            let Plan { actions, pending } = plan(fleet, &scope, now);
            fleet.planned(&scope, pending);
            for action in actions {
                match action {
                    Action::Spawn(NewWorker { model, hive, .. }) => {
                        *spawned += 1;
                        fleet.spawn_commanded((hive, name(&format!("new-{spawned}"))), model, now);
                    }
                    Action::Stop { worker, .. } => fleet.stop_commanded(&worker, now),
                    Action::Refuse { model, .. } => fleet.jobs_refused(&model),
                    Action::ReportUnplaceable { .. } => {}
                }
            }
        }
        panic!("planning does not come to an end");
    }

    proptest! {
        #[test]
        fn planning_what_is_marked_leaves_nothing_for_a_pass_over_everything(
            inputs in prop::collection::vec(input(), 1..40),
        ) {
            let (mut fleet, mut spawned, now) = (Fleet::default(), 0, Instant::now());
            for input in inputs {
                apply(&mut fleet, input, now);
                settle(&mut fleet, &mut spawned, now);
                let left = plan(&fleet, &Scope::Everything, now);
                let is_report = |action: &Action| matches!(action, Action::ReportUnplaceable { .. });
                prop_assert!(left.actions.iter().all(is_report), "{left}");
            }
        }
    }
}
