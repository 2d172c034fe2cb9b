//! Of which models something is to be decided anew: a fleet of thousands of workers changes a hundred times a second, and
//! each change concerns one model.
//!
//! What a model is to have follows from its own workers, jobs and declaration, from the hives, and from time. A change of a
//! worker or of jobs touches its model, a change of a hive everything. A model for which something could not be done is
//! unsettled, and is looked at whenever room may have come. Time alone is looked after with everything: the first heartbeat
//! that could be missed is never more than seconds away.

use std::collections::BTreeSet;

use rbee_schema::ModelName;

/// What has changed since the last look.
#[derive(Debug, Clone, Default)]
pub struct Touched {
    everything: bool,
    models: BTreeSet<ModelName>,
    /// Somewhere may be more room than there was.
    room: bool,
    unsettled: BTreeSet<ModelName>,
}

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All models, and what follows from time.
    Everything,
    /// These models.
    Models(BTreeSet<ModelName>),
}

impl Touched {
    /// Anything may have changed.
    pub fn everything(&mut self) {
        self.everything = true;
    }

    /// Something of a model has changed.
    pub fn model(&mut self, model: &ModelName) {
        if !self.everything && !self.models.contains(model) {
            self.models.insert(model.clone());
        }
    }

    /// A worker has left room, or may be swapped out.
    pub fn room(&mut self) {
        self.room = true;
    }

    /// Whether nothing is to be looked at.
    pub fn is_nothing(&self) -> bool {
        let may_settle = self.room && !self.unsettled.is_empty();
        !self.everything && self.models.is_empty() && !may_settle
    }

    /// What is to be looked at now; from now on nothing is touched.
    pub fn take(&mut self) -> Scope {
        let (everything, room) = (std::mem::take(&mut self.everything), std::mem::take(&mut self.room));
        let mut models = std::mem::take(&mut self.models);
        if everything {
            return Scope::Everything;
        }
        if room {
            models.extend(self.unsettled.iter().cloned());
        }
        Scope::Models(models)
    }

    /// After a look: of these models something is left to be done.
    pub fn looked_at(&mut self, scope: &Scope, unsettled: BTreeSet<ModelName>) {
        match scope {
            Scope::Everything => self.unsettled = unsettled,
            Scope::Models(models) => {
                self.unsettled.retain(|model| !models.contains(model));
                self.unsettled.extend(unsettled);
            }
        }
    }
}

impl Scope {
    /// Whether a model is looked at.
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
        fixture::{self, beat, draining, failed, hive, key, leaves, name, record, spec},
        fleet::Fleet,
        scale::{Order, orders},
    };

    fn models(names: &[&str]) -> Scope {
        Scope::Models(names.iter().map(|model| name(model)).collect())
    }

    #[test]
    fn what_was_touched_is_looked_at_once() {
        let mut touched = Touched::default();
        assert!(touched.is_nothing());
        touched.model(&name("m"));
        assert!(!touched.is_nothing());
        assert_eq!(touched.take(), models(&["m"]));
        assert!(touched.is_nothing());
        touched.model(&name("m"));
        touched.everything();
        assert_eq!(touched.take(), Scope::Everything);
        assert!(touched.is_nothing());
    }

    #[test]
    fn who_found_no_room_is_looked_at_when_there_may_be_some() {
        let mut touched = Touched::default();
        touched.room();
        assert!(touched.is_nothing(), "nobody waits for it");
        touched.looked_at(&Scope::Everything, [name("m")].into());
        assert_eq!(touched.take(), models(&["m"]));
        touched.model(&name("n"));
        assert_eq!(touched.take(), models(&["n"]), "no room has come since");
        touched.looked_at(&models(&["m"]), BTreeSet::new());
        touched.room();
        assert!(touched.is_nothing(), "it is settled");
    }

    /// What may happen to a fleet of two hives, three workers and two models.
    #[derive(Debug, Clone)]
    enum Happening {
        Hive(&'static str, HiveRecord),
        HiveWithoutKey(&'static str),
        HiveGone(&'static str),
        Worker(&'static str, &'static str, WorkerRecord),
        WorkerGone(&'static str, &'static str),
        Beat(&'static str, &'static str, usize),
        Declared(&'static str, u32, u32),
        Withdrawn(&'static str),
        JobWaits(&'static str),
        Counted(&'static str, u64),
    }

    fn happening() -> impl Strategy<Value = Happening> {
        let hives = || prop::sample::select(vec!["a", "b"]);
        let workers = || prop::sample::select(vec!["v", "w", "x"]);
        let models = || prop::sample::select(vec!["m", "n"]);
        let few = HiveRecord { max_workers: Some(1), ..hive() };
        let hive_record = prop::sample::select(vec![hive(), draining(), few]);
        let phases = [WorkerPhase::Loading, WorkerPhase::Ready, WorkerPhase::Backoff, WorkerPhase::Stopping];
        let worker_record = (prop::sample::select(phases.to_vec()), models())
            .prop_map(|(phase, model)| WorkerRecord { model: name(model), ..record(phase) });
        let failures = [FailureCode::MemoryShort, FailureCode::ModelMissing, FailureCode::OutOfMemory];
        let failed = prop::sample::select(failures.to_vec()).prop_map(failed);
        prop_oneof![
            (hives(), hive_record).prop_map(|(at, record)| Happening::Hive(at, record)),
            hives().prop_map(Happening::HiveWithoutKey),
            hives().prop_map(Happening::HiveGone),
            (hives(), workers(), worker_record).prop_map(|(at, worker, record)| Happening::Worker(at, worker, record)),
            (hives(), workers(), failed).prop_map(|(at, worker, record)| Happening::Worker(at, worker, record)),
            (hives(), workers()).prop_map(|(at, worker)| Happening::WorkerGone(at, worker)),
            (hives(), workers(), 0..3_usize).prop_map(|(at, worker, jobs)| Happening::Beat(at, worker, jobs)),
            (models(), 0..3_u32, 1..3_u32).prop_map(|(model, min, more)| Happening::Declared(model, min, min + more)),
            models().prop_map(Happening::Withdrawn),
            models().prop_map(Happening::JobWaits),
            (models(), 0..3_u64).prop_map(|(model, depth)| Happening::Counted(model, depth)),
        ]
    }

    fn happens(fleet: &mut Fleet, happening: Happening, now: Instant) {
        match happening {
            Happening::Hive(at, record) => {
                fleet.hive_is_there(name(at), record, now);
            }
            Happening::HiveWithoutKey(at) => fleet.hive_has_no_key(&name(at)),
            Happening::HiveGone(at) => {
                leaves(fleet, at);
            }
            // A worker serves one model all its life.
            Happening::Worker(at, worker, record) => {
                let known = fleet.workers.get(&key(at, worker)).map(|known| known.record.model.clone());
                let model = known.unwrap_or_else(|| record.model.clone());
                fleet.worker_is(key(at, worker), WorkerRecord { model, ..record }, now);
            }
            Happening::WorkerGone(at, worker) => {
                fleet.worker_is_gone(&key(at, worker));
            }
            Happening::Beat(at, worker, jobs) => {
                fleet.worker_beats(&key(at, worker), beat(jobs), now);
            }
            Happening::Declared(model, min, max) => {
                fleet.model_is(name(model), ModelSpec { replicas: Replicas { min, max }, ..spec() });
            }
            Happening::Withdrawn(model) => fleet.model_is_gone(&name(model)),
            Happening::JobWaits(model) => fleet.job_waits(&name(model), now),
            Happening::Counted(model, depth) => fleet.jobs_found(&name(model), depth, now),
        }
    }

    /// Looks at what is touched, and does what is ordered, until nothing is.
    fn settle(fleet: &mut Fleet, now: Instant) {
        for look in 0..100 {
            if fleet.touched.is_nothing() {
                return;
            }
            let scope = fleet.touched.take();
            for (number, order) in orders(fleet, &scope, now).into_iter().enumerate() {
                match order {
                    Order::Spawn { model, hive, .. } => {
                        fleet.ordered((hive, name(&format!("ordered-{look}-{number}"))), model, now);
                    }
                    Order::Refuse { model, .. } => fleet.demand_is_over(&model),
                    Order::Stop { .. } | Order::Unplaceable { .. } => {}
                }
            }
        }
        panic!("it does not settle");
    }

    proptest! {
        #[test]
        fn a_look_at_what_was_touched_leaves_nothing_that_a_look_at_everything_would_order(
            happenings in prop::collection::vec(happening(), 1..40),
        ) {
            let (mut fleet, now) = (Fleet::default(), Instant::now());
            for happening in happenings {
                happens(&mut fleet, happening, now);
                settle(&mut fleet, now);
                let left = fixture::orders(&fleet, now);
                let is_told = |order: &Order| matches!(order, Order::Unplaceable { .. });
                prop_assert!(left.iter().all(is_told), "{left:?}");
            }
        }
    }
}
