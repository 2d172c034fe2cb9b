//! Retirement: workers that are of no use any more are stopped, so that their hives forget them.

use rbee_schema::{ModelName, ModelSpec, WorkerPhase};

use super::planner::Planner;
use crate::decide::{
    dirty::Scope,
    fleet::{Worker, WorkerKey},
};

/// Stops workers in a crash loop once other workers have taken their place. Until then their hive keeps trying them.
pub(super) fn stop_crash_looping(planner: &mut Planner<'_>, model: &ModelName, spec: &ModelSpec) {
    let overlay = planner.overlay();
    let Some(((hive, name), _)) = overlay.serving(model).find(|(_, worker)| worker.is_ready()) else { return };
    let why = format!("it is in a crash loop, and worker {name} on {hive} serves {model}");
    let looping = unstopped(planner, model, |worker| worker.record.phase == WorkerPhase::CrashLoop);
    let workers = overlay.capacity(model) as usize + looping.len();
    let excess = workers.saturating_sub(spec.replicas.max as usize);
    for key in looping.into_iter().take(excess) {
        planner.stop(key, why.clone());
    }
}

/// Stops workers that have failed and will not be started again.
pub(super) fn stop_failed(planner: &mut Planner<'_>, model: &ModelName) {
    for key in unstopped(planner, model, |worker| worker.record.phase == WorkerPhase::Failed) {
        planner.stop(key, "it has failed and is not started again".to_owned());
    }
}

/// Stops the workers of models that are no longer declared.
pub(super) fn stop_undeclared(planner: &mut Planner<'_>, scope: &Scope) {
    let fleet = planner.fleet();
    let is_undeclared = |model: &&ModelName| !fleet.models().contains_key(*model);
    let undeclared: Vec<&ModelName> = match scope {
        Scope::Everything => fleet.models_with_workers().filter(is_undeclared).collect(),
        Scope::Models(models) => models.iter().filter(is_undeclared).collect(),
    };
    for model in undeclared {
        stop_failed(planner, model);
        for key in unstopped(planner, model, |_| true) {
            planner.stop_when_finished(key, format!("model {model} is no longer declared"));
        }
    }
}

/// Workers of a model on present hives that match and were not told to stop.
fn unstopped<'a>(planner: &Planner<'a>, model: &ModelName, matches: impl Fn(&Worker) -> bool) -> Vec<&'a WorkerKey> {
    let (fleet, overlay) = (planner.fleet(), planner.overlay());
    let found = fleet
        .workers_for(model)
        .filter(|(key, worker)| matches(worker) && !overlay.is_stopping(key, worker) && fleet.is_present(&key.0));
    found.map(|(key, _)| key).collect()
}
