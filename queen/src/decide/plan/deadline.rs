//! Time of the next planning pass if no input comes.

use std::time::Instant;

use crate::decide::{
    dirty::Scope,
    fleet::{Fleet, Worker},
};

/// Earliest time after `now` at which the plan for `scope` may change without any input.
pub fn next_deadline(fleet: &Fleet, scope: &Scope, now: Instant) -> Option<Instant> {
    let workers: Box<dyn Iterator<Item = &Worker> + '_> = match scope {
        Scope::Models(models) if !fleet.has_demand() => {
            Box::new(models.iter().flat_map(|model| fleet.workers_for(model)).map(|(_, worker)| worker))
        }
        // A model in demand may preempt the worker of any other.
        Scope::Models(_) | Scope::Everything => Box::new(fleet.workers().values()),
    };
    let workers = workers.filter_map(|worker| worker_deadline(fleet, worker, now));
    let waits = fleet.queues().values().filter(|queue| queue.answer_time().is_none());
    let waits = waits.filter_map(|queue| Some(queue.waiting_since()? + fleet.timers().wait));
    let overdue = fleet.demands().map(|since| since + fleet.timers().unserved);
    let deadlines = fleet.backoffs().deadlines().chain(workers).chain(waits).chain(overdue).chain(fleet.deadlines());
    deadlines.filter(|at| *at > now).min()
}

/// Time at which a worker may have to be stopped, may be preempted, or must be told to stop again.
fn worker_deadline(fleet: &Fleet, worker: &Worker, now: Instant) -> Option<Instant> {
    let timers = fleet.timers();
    if let Some(commanded) = worker.stop_commanded {
        return Some(commanded + timers.order);
    }
    if !worker.is_idle() {
        return None;
    }
    let model = &worker.record.model;
    let spec = fleet.models().get(model).filter(|spec| !spec.pinned)?;
    let ready_since = worker.ready_since.filter(|_| fleet.has_demand());
    let preemption = ready_since.map(|since| since + timers.residency).filter(|at| *at > now);
    let is_spare = fleet.most_workers(model) > spec.replicas.min as usize;
    let idle_stop = is_spare.then_some(worker.idle_since + spec.idle_timeout);
    preemption.into_iter().chain(idle_stop).min()
}
