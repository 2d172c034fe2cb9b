//! Workers that make way for others: those of an old declaration, on a hive that drains, beyond the bounds, or in the way
//! of a model that is in demand.

use std::time::Instant;

use rbee_schema::{HiveName, ModelName, ModelSpec};

use crate::decide::{
    fleet::{Fleet, Worker, WorkerKey},
    scale::Plan,
};

impl Plan<'_> {
    /// A worker that is no longer as it should be is drained when another one has taken its place: the new one is ready
    /// before the old one goes. There may be one more than the bounds allow meanwhile.
    pub(super) fn replaced(&mut self, model: &ModelName, spec: &ModelSpec) {
        // Who serves nobody goes at once: what is missing then is ordered as it should be.
        let useless = outdated(self.fleet, model, spec).filter(|(_, worker, _)| !worker.is_ready());
        for (key, why) in useless.map(owned).collect::<Vec<_>>() {
            self.stop(&key, why);
        }
        let old: Vec<(WorkerKey, String)> = {
            let mut old: Vec<_> = outdated(self.fleet, model, spec).collect();
            old.sort_by_key(|(_, worker, _)| worker.jobs.len());
            old.into_iter().map(owned).collect()
        };
        let Some((first, why)) = old.first().cloned() else { return self.beyond_bounds(model, spec) };
        let demanded = self.fleet.demand.contains_key(model);
        let idle = self.fleet.workers.get(&first).is_some_and(Worker::is_idle);
        if spec.replicas.min == 0 && !spec.pinned && idle && !demanded && is_leaving(self.fleet, &first) {
            return self.stop(&first, why);
        }
        let (all, old) = (self.fleet.capacity(model), count(old.len()));
        let new = all.saturating_sub(old);
        let goal = old.max(new).clamp(spec.replicas.min, spec.replicas.max);
        if new < goal
            && all <= spec.replicas.max
            && self.spawn(model, spec, &format!("it takes a place: {why}")).is_err()
        {
            // There is no room beside the old one. What waits meanwhile is served by the new one.
            return self.stop(&first, format!("{why}, and there is no room for another beside it"));
        }
        let ready = count(self.fleet.serving(model).filter(|(_, worker)| worker.is_ready()).count());
        if ready > old && ready > goal {
            self.stop(&first, why);
        }
    }

    /// After a lost hive has returned there may be more workers than there should be.
    fn beyond_bounds(&mut self, model: &ModelName, spec: &ModelSpec) {
        let mut serving: Vec<(&WorkerKey, &Worker)> = self.fleet.serving(model).collect();
        let beyond = serving.len().saturating_sub(spec.replicas.max as usize);
        // First who does not serve yet, then who has the fewest jobs, then who came last.
        serving.sort_by_key(|(_, worker)| {
            (worker.is_ready(), worker.jobs.len(), worker.ready_since.map(std::cmp::Reverse))
        });
        let max = spec.replicas.max;
        for key in serving.into_iter().take(beyond).map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.stop(&key, format!("{model} has more workers than the {max} that it may have"));
        }
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn owned((key, _, why): (&WorkerKey, &Worker, String)) -> (WorkerKey, String) {
    (key.clone(), why)
}

/// The workers of a model that are no longer as they should be, and why.
fn outdated<'a>(
    fleet: &'a Fleet,
    model: &ModelName,
    spec: &'a ModelSpec,
) -> impl Iterator<Item = (&'a WorkerKey, &'a Worker, String)> {
    let live = fleet.workers_for(model).filter(move |((hive, _), worker)| {
        worker.told_to_stop.is_none() && fleet.is_there(hive) && (worker.counts() || worker.looping.is_some())
    });
    live.filter_map(move |(key, worker)| {
        let started_with = worker.record.spec.as_ref();
        if started_with.is_some_and(|started_with| !spec.runs_like(started_with)) {
            return Some((key, worker, "its declaration has changed".to_owned()));
        }
        is_leaving(fleet, key).then(|| (key, worker, format!("hive {} drains", key.0)))
    })
}

/// Whether the hive of a worker takes no further workers and lets go of those that it has.
fn is_leaving(fleet: &Fleet, key: &WorkerKey) -> bool {
    fleet.hives.get(&key.0).is_some_and(|hive| hive.record.draining)
}

/// A worker that makes room for one of `model` on a hive that is crowded: one that is idle, and of a model that waits for
/// nothing, may have fewer workers, and is of no higher priority. The one that has been idle for longest. It must have
/// served for a while: else models would take turns in loading.
pub(super) fn swapped_out(
    fleet: &Fleet,
    model: &ModelName,
    spec: &ModelSpec,
    crowded: &[HiveName],
    now: Instant,
) -> Option<(WorkerKey, String)> {
    let mut candidates = Vec::new();
    for hive in crowded {
        if fleet.workers_of(hive).any(|(_, worker)| worker.told_to_stop.is_some()) {
            return None; // Room is on its way.
        }
        for (key, worker) in fleet.workers_of(hive) {
            let other = &worker.record.model;
            let Some(other_spec) = fleet.models.get(other) else { continue };
            let has_served = worker.ready_since.is_some_and(|since| now >= since + fleet.timers.residency);
            let is_wanted = fleet.demand.contains_key(other)
                || fleet.queues.get(other).is_some_and(|queue| queue.waiting() > 0)
                || fleet.capacity(other) <= other_spec.replicas.min;
            if other != model
                && worker.is_idle()
                && has_served
                && !is_wanted
                && !other_spec.pinned
                && other_spec.priority <= spec.priority
            {
                candidates.push((other_spec.priority, worker.idle_since, key));
            }
        }
    }
    let (_, idle_since, key) = candidates.into_iter().min()?;
    let idle = now.saturating_duration_since(idle_since);
    Some((key.clone(), format!("idle for {idle:.1?}, and jobs wait for {model}, for which there is no room")))
}

#[cfg(test)]
mod tests;
