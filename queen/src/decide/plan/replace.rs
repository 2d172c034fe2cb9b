//! Replacement: workers with an old declaration or on a draining hive make way for new ones. Workers beyond the maximum are
//! stopped.

use std::cmp::Reverse;

use rbee_schema::{ModelName, ModelSpec};

use super::planner::Planner;
use crate::decide::{
    fleet::{Fleet, Worker, WorkerKey},
    overlay::Overlay,
};

/// A worker that must be replaced.
struct Outdated<'a> {
    key: &'a WorkerKey,
    worker: &'a Worker,
    why: String,
}

/// Replaces the outdated workers of a model, one at a time: the new worker is ready before the old one is drained. Meanwhile
/// there may be one worker more than the maximum.
pub(super) fn replace_outdated<'a>(planner: &mut Planner<'a>, model: &'a ModelName, spec: &'a ModelSpec) {
    // An outdated worker that serves no jobs stops at once; the next pass starts one that is as declared.
    let useless = outdated(planner.overlay(), model, spec).filter(|outdated| !outdated.worker.is_ready());
    for Outdated { key, why, .. } in useless.collect::<Vec<_>>() {
        planner.stop(key, why);
    }
    let mut old: Vec<Outdated<'a>> = outdated(planner.overlay(), model, spec).collect();
    old.sort_by_key(|outdated| outdated.worker.jobs.len());
    let old_count = u32::try_from(old.len()).unwrap_or(u32::MAX);
    let Some(Outdated { key, worker, why }) = old.into_iter().next() else {
        return stop_excess(planner, model, spec);
    };
    if needs_no_successor(planner.fleet(), key, worker, spec) {
        return planner.stop(key, why);
    }
    let capacity = planner.overlay().capacity(model);
    let new = capacity.saturating_sub(old_count);
    let goal = old_count.max(new).clamp(spec.replicas.min, spec.replicas.max);
    let may_spawn = new < goal && capacity <= spec.replicas.max;
    if may_spawn && planner.spawn(model, spec, &format!("it replaces worker {} on {}: {why}", key.1, key.0)).is_err() {
        // Jobs that wait until the successor is ready are served by it.
        return planner.stop(key, format!("{why}, and no hive has room for its successor beside it"));
    }
    let ready = planner.overlay().serving(model).filter(|(_, worker)| worker.is_ready()).count();
    if ready > old_count.max(goal) as usize {
        planner.stop(key, why);
    }
}

/// True if an idle worker on a draining hive can go without a successor: a job that comes later starts one.
fn needs_no_successor(fleet: &Fleet, key: &WorkerKey, worker: &Worker, spec: &ModelSpec) -> bool {
    let is_needed = spec.replicas.min > 0 || spec.pinned || fleet.is_in_demand(&worker.record.model);
    !is_needed && worker.is_idle() && is_draining(fleet, key)
}

/// Stops the workers beyond the maximum, such as duplicates after the return of a lost hive.
fn stop_excess(planner: &mut Planner<'_>, model: &ModelName, spec: &ModelSpec) {
    let max = spec.replicas.max;
    let mut serving: Vec<(&WorkerKey, &Worker)> = planner.overlay().serving(model).collect();
    let excess = serving.len().saturating_sub(max as usize);
    // First those that do not serve yet, then those with the fewest jobs, then the newest.
    serving.sort_by_key(|(_, worker)| (worker.is_ready(), worker.jobs.len(), worker.ready_since.map(Reverse)));
    for (key, _) in serving.into_iter().take(excess) {
        planner.stop(key, format!("{model} has more workers than its maximum, {max}"));
    }
}

/// Workers of a model that are not as declared or whose hive is draining.
fn outdated<'a, 'b>(
    overlay: &'b Overlay<'a>,
    model: &ModelName,
    spec: &'b ModelSpec,
) -> impl Iterator<Item = Outdated<'a>> + use<'a, 'b> {
    let fleet = overlay.fleet();
    let live = fleet.workers_for(model).filter(move |(key, worker)| {
        let is_kept = worker.counts() || worker.crash_loop.is_some();
        is_kept && !overlay.is_stopping(key, worker) && fleet.is_present(&key.0)
    });
    live.filter_map(move |(key, worker)| {
        let started_with = worker.record.spec.as_ref();
        let why = if started_with.is_some_and(|started_with| !spec.runs_like(started_with)) {
            "the declaration of the model has changed".to_owned()
        } else if is_draining(fleet, key) {
            format!("hive {} is draining", key.0)
        } else {
            return None;
        };
        Some(Outdated { key, worker, why })
    })
}

fn is_draining(fleet: &Fleet, key: &WorkerKey) -> bool {
    fleet.hives().get(&key.0).is_some_and(|hive| hive.record.draining)
}

#[cfg(test)]
mod tests;
