//! Scaling: the number of workers that a model needs. Missing workers are started, idle ones are stopped.

use std::time::{Duration, Instant};

use rbee_schema::{Failure, FailureCode, JobClass, ModelName, ModelSpec, WorkerPhase};

use super::{planner::Planner, preempt::preempt};
use crate::decide::{
    fleet::{Fleet, Worker, WorkerKey},
    liveness::Presence,
    overlay::Overlay,
    place::{NoPlacement, Outlook, place},
    plural::plural,
    queue::Queue,
};

/// Number of workers that a model needs.
struct DesiredReplicas {
    count: u32,
    why: String,
}

/// True if nothing has to be done for a model: it has a permitted number of workers, each of them as declared, and no job
/// waits. In a large fleet this holds for nearly every model at nearly every moment.
pub(super) fn is_settled(planner: &Planner<'_>, model: &ModelName, spec: &ModelSpec) -> bool {
    let fleet = planner.fleet();
    if fleet.waiting(model) > 0 || fleet.is_in_demand(model) {
        return false;
    }
    let (mut serving, mut may_stop) = (fleet.pending_spawns_of(model), false);
    for (key, worker) in fleet.workers_for(model) {
        let hive = fleet.hives().get(&key.0).filter(|hive| hive.liveness.presence() != Presence::Lost);
        let Some(hive) = hive.filter(|_| !planner.overlay().is_stopping(key, worker)) else { continue };
        let is_as_declared = worker.record.spec.as_ref().is_none_or(|found| spec.runs_like(found));
        if hive.record.draining || !worker.counts() || worker.crash_loop.is_some() || !is_as_declared {
            return false;
        }
        may_stop |= !spec.pinned && has_been_idle(worker, spec.idle_timeout, planner.now());
        serving += 1;
    }
    let (min, max) = (spec.replicas.min as usize, spec.replicas.max as usize);
    (min..=max).contains(&serving) && !(may_stop && serving > min)
}

fn has_been_idle(worker: &Worker, timeout: Duration, now: Instant) -> bool {
    worker.is_idle() && now >= worker.idle_since + timeout
}

/// Starts the workers that a model lacks.
pub(super) fn start_missing<'a>(planner: &mut Planner<'a>, model: &'a ModelName, spec: &'a ModelSpec) {
    let desired = desired_replicas(planner.overlay(), model, spec, planner.now());
    let capacity = planner.overlay().capacity(model);
    if capacity >= desired.count {
        return;
    }
    planner.mark_pending(model);
    if let Some(failure) = planner.fleet().backoffs().of_model(model) {
        if planner.fleet().is_in_demand(model) {
            planner.refuse(model, None, failure.clone());
        }
        return;
    }
    for _ in capacity..desired.count {
        if let Err(no_placement) = planner.spawn(model, spec, &desired.why) {
            return handle_no_placement(planner, model, spec, no_placement);
        }
    }
}

/// Makes room for a worker that has no placement, or reports why it has none.
fn handle_no_placement(planner: &mut Planner<'_>, model: &ModelName, spec: &ModelSpec, no_placement: NoPlacement) {
    let NoPlacement { failure, outlook, full_hives } = no_placement;
    let in_demand = planner.fleet().is_in_demand(model);
    if in_demand && let Some((worker, why)) = preempt(planner.overlay(), model, spec, &full_hives, planner.now()) {
        return planner.stop(worker, why);
    }
    // Jobs are refused only if neither a worker that is starting, nor one of a lost hive, nor waiting can help.
    let is_answered = planner.fleet().is_answered(model, planner.now());
    let is_hopeless = outlook == Outlook::Permanent && planner.overlay().capacity(model) == 0 && !is_answered;
    if in_demand && is_hopeless {
        planner.refuse(model, None, failure);
    } else {
        planner.report_unplaceable(model, failure);
    }
}

/// Refuses interactive jobs that have waited for too long for a first worker, so that their clients learn of it. A worker that
/// loads for the first time is waited for: a large model takes minutes. Batch jobs wait on.
pub(super) fn refuse_overdue(planner: &mut Planner<'_>, model: &ModelName, spec: &ModelSpec) {
    let (fleet, now) = (planner.fleet(), planner.now());
    let patience = fleet.timers().unserved;
    let is_overdue = fleet.in_demand_since(model).is_some_and(|since| now >= since + patience);
    let is_new = |worker: &Worker| worker.record.exits == 0 && worker.record.phase < WorkerPhase::Ready;
    let is_starting =
        fleet.pending_spawns_of(model) > 0 || planner.overlay().serving(model).any(|(_, worker)| is_new(worker));
    if !is_overdue || is_starting {
        return;
    }
    let of_worker = fleet.workers_for(model).find_map(|(_, worker)| worker.record.failure.clone());
    let of_placement = || place(planner.overlay(), model, spec, now).err().map(|none| none.failure);
    let failure = of_worker.or_else(of_placement).unwrap_or_else(|| {
        let message = format!("no worker for {model} was ready within {patience:?}: `rbee explain {model}` says why");
        Failure::new(FailureCode::NoCapacity, message)
    });
    planner.refuse(model, Some(JobClass::Interactive), failure);
}

/// Stops workers beyond the minimum that have been idle for the model's `idle_timeout`.
pub(super) fn stop_idle(planner: &mut Planner<'_>, model: &ModelName, spec: &ModelSpec) {
    if spec.pinned || planner.fleet().is_in_demand(model) {
        return;
    }
    let (overlay, now) = (planner.overlay(), planner.now());
    let spare = overlay.capacity(model).saturating_sub(spec.replicas.min);
    let idle = overlay.serving(model).filter(|(_, worker)| has_been_idle(worker, spec.idle_timeout, now));
    for key in idle.map(|(key, _)| key).take(spare as usize).collect::<Vec<&WorkerKey>>() {
        planner.stop(key, format!("no jobs for {:?} (idle_timeout)", spec.idle_timeout));
    }
}

fn desired_replicas(overlay: &Overlay<'_>, model: &ModelName, spec: &ModelSpec, now: Instant) -> DesiredReplicas {
    let demanded = u32::from(overlay.fleet().is_in_demand(model));
    let minimum = demanded.clamp(spec.replicas.min, spec.replicas.max);
    if let Some(desired) = replicas_for_queue(overlay, model, spec, now).filter(|desired| desired.count > minimum) {
        return desired;
    }
    let why = if demanded > 0 && spec.replicas.min == 0 {
        "jobs wait and no worker serves the model".to_owned()
    } else {
        format!("the model needs at least {}", plural(u64::from(minimum), "worker"))
    };
    DesiredReplicas { count: minimum, why }
}

/// Number of workers that the waiting jobs justify, if it is more than there are: one more as long as the last job would wait
/// longer than a new worker takes to start. `None` while a slot is free, because a worker is about to take the jobs.
fn replicas_for_queue(
    overlay: &Overlay<'_>,
    model: &ModelName,
    spec: &ModelSpec,
    now: Instant,
) -> Option<DesiredReplicas> {
    let fleet = overlay.fleet();
    let queue = fleet.queue(model).filter(|queue| queue.waiting() > 0)?;
    let ready: Vec<&Worker> =
        overlay.serving(model).map(|(_, worker)| worker).filter(|worker| worker.is_ready()).collect();
    let has_free_slot = |worker: &&Worker| worker.jobs.len() < worker.record.slots as usize;
    if ready.is_empty() || ready.iter().any(has_free_slot) {
        return None;
    }
    let current = overlay.capacity(model);
    let start = expected_start(fleet, queue);
    let slots = |workers: u32| u64::from(workers) * u64::from(spec.slots);
    let mut count = current;
    if queue.answer_time().is_some() {
        while count < spec.replicas.max && queue.expected_wait(slots(count), now) > start {
            count += 1;
        }
    } else {
        // No answer was measured yet: one worker at a time.
        let all_ready = ready.len() == current as usize;
        let is_long = queue.expected_wait(slots(current), now) >= fleet.timers().wait;
        count += u32::from(all_ready && is_long && current < spec.replicas.max);
    }
    let why = format!(
        "{} waiting for {}, the last one for about {:.1?}; a new worker starts in about {start:.1?}",
        plural(queue.waiting(), "job"),
        plural(slots(current), "slot"),
        queue.expected_wait(slots(current), now),
    );
    (count > current).then_some(DesiredReplicas { count, why })
}

/// Expected time until a new worker is ready. A shorter wait than the timer `wait` is no reason for a worker.
fn expected_start(fleet: &Fleet, queue: &Queue) -> Duration {
    queue.start_time().unwrap_or(fleet.timers().start).max(fleet.timers().wait)
}
