//! Number of runs of a measurement, and the fleets for them.

use rbee_schema::{ModelReference, ModelSpec, Replicas, WorkerPhase, api::Worker};
use rbee_tests::{
    fleet::Fleet,
    tools,
    wait::{PATIENCE, eventually},
};

/// Number of runs, relative to a full measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// All runs, for figures.
    Full,
    /// A tenth, to check that everything works.
    Quick,
}

impl Effort {
    /// `full`, or a tenth of it.
    pub(crate) fn runs(self, full: usize) -> usize {
        match self {
            Self::Full => full,
            Self::Quick => full.div_ceil(10),
        }
    }
}

/// Calls `run` `runs` times, with a new fleet after every `per_fleet` runs: a fleet has ten ports, and a worker that crashed
/// twice in a minute is started again only after a pause.
pub(crate) async fn each<T>(runs: usize, per_fleet: usize, mut run: impl AsyncFnMut(&Fleet, usize) -> T) -> Vec<T> {
    let mut outcomes = Vec::with_capacity(runs);
    while outcomes.len() < runs {
        let fleet = Fleet::start().await;
        for number in outcomes.len()..runs.min(outcomes.len() + per_fleet) {
            outcomes.push(run(&fleet, number).await);
        }
    }
    outcomes
}

/// The real model of the tests, and its name.
pub(crate) fn real_model() -> (ModelReference, String) {
    let file = tools::model();
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    (ModelReference::File(file), name)
}

/// Declaration of a model with `min` to `max` workers of `slots` slots each.
pub(crate) fn spec(reference: ModelReference, min: u32, max: u32, slots: u32) -> ModelSpec {
    ModelSpec { replicas: Replicas { min, max }, slots, ..ModelSpec::new(reference) }
}

/// Waits until `count` workers of `model` are ready, and returns them.
pub(crate) async fn ready(fleet: &Fleet, model: &str, count: usize) -> Vec<Worker> {
    let mut ready = Vec::new();
    eventually(&format!("{count} workers of {model} are ready"), PATIENCE, async || {
        ready = fleet.workers().await;
        ready.retain(|worker| worker.record.model.as_str() == model && worker.record.phase == WorkerPhase::Ready);
        ready.len() == count
    })
    .await;
    ready
}
