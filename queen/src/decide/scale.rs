//! How many workers each model is to have: what is missing is ordered, what is idle or unwanted is stopped.

use std::{borrow::Cow, time::Instant};

use rbee_schema::{Failure, HiveName, ModelName, ModelSpec, WorkerName, WorkerPhase};

use crate::decide::{
    fleet::{Fleet, Worker, WorkerKey},
    place::{Nowhere, Outlook, place},
    replace,
};

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// Command a hive to start a worker.
    Spawn {
        /// For which model.
        model: ModelName,
        /// How it is served.
        spec: ModelSpec,
        /// Where.
        hive: HiveName,
        /// Why, and why there, in words.
        why: String,
    },
    /// Command a hive to stop a worker.
    Stop {
        /// Which.
        worker: WorkerKey,
        /// Why, in words.
        why: String,
    },
    /// Answer the jobs that wait for a model: it cannot be started.
    Refuse {
        /// Which model.
        model: ModelName,
        /// Why.
        failure: Failure,
    },
    /// Tell that a model is in demand and cannot be placed.
    Unplaceable {
        /// Which model.
        model: ModelName,
        /// Why.
        failure: Failure,
    },
}

/// What is to be done now.
pub fn orders(fleet: &Fleet, now: Instant) -> Vec<Order> {
    let mut plan = Plan { fleet: Cow::Borrowed(fleet), now, orders: Vec::new() };
    for (model, spec) in fleet.active() {
        plan.missing(model, spec);
        plan.replaced(model, spec);
        plan.idle(model, spec);
        plan.looped(model, spec);
    }
    plan.unwanted();
    plan.orders
}

/// When [`orders`] may have another answer although nothing was heard.
pub fn next_look(fleet: &Fleet, now: Instant) -> Option<Instant> {
    let idle = fleet.workers.values().filter(|worker| worker.is_idle() && worker.told_to_stop.is_none());
    let idle = idle.filter_map(|worker| {
        let spec = fleet.models.get(&worker.record.model).filter(|spec| !spec.pinned)?;
        let resident = worker.ready_since.filter(|_| !fleet.demand.is_empty());
        let swap = resident.map(|since| since + fleet.timers.residency).filter(|at| *at > now);
        Some(swap.into_iter().chain([worker.idle_since + spec.idle_timeout]).min().unwrap_or(now))
    });
    let waits = fleet.queues.values().filter(|queue| queue.answer().is_none());
    let waits = waits.filter_map(|queue| Some(queue.since()? + fleet.timers.wait));
    fleet.held.ends().chain(idle).chain(waits).chain(fleet.next_change()).filter(|at| *at > now).min()
}

/// The orders so far, and the fleet as it will be when they are carried out.
pub(super) struct Plan<'a> {
    pub(super) fleet: Cow<'a, Fleet>,
    pub(super) now: Instant,
    pub(super) orders: Vec<Order>,
}

/// How many workers a model is to have, and why more than it would have without jobs.
struct Wanted {
    workers: u32,
    why: String,
}

impl Plan<'_> {
    /// Orders a worker where there is a place for it.
    pub(super) fn spawn(&mut self, model: &ModelName, spec: &ModelSpec, why: &str) -> Result<(), Nowhere> {
        let (hive, where_) = place(&self.fleet, model, spec, self.now)?;
        let number = self.orders.len();
        let key = (hive.clone(), WorkerName::from_lossy(&format!("planned-{number}")));
        self.fleet.to_mut().ordered(key, model.clone(), self.now);
        let why = format!("{why}; {where_}");
        self.orders.push(Order::Spawn { model: model.clone(), spec: spec.clone(), hive, why });
        Ok(())
    }

    /// Orders the end of a worker.
    pub(super) fn stop(&mut self, key: &WorkerKey, why: String) {
        self.fleet.to_mut().told_to_stop(key, self.now);
        self.orders.push(Order::Stop { worker: key.clone(), why });
    }

    fn missing(&mut self, model: &ModelName, spec: &ModelSpec) {
        let demanded = self.fleet.demand.contains_key(model);
        let wanted = wanted(&self.fleet, model, spec, self.now);
        let capacity = self.fleet.capacity(model);
        if capacity >= wanted.workers {
            return;
        }
        if let Some(failure) = self.fleet.held.everywhere(model).cloned() {
            if demanded {
                self.orders.push(Order::Refuse { model: model.clone(), failure });
            }
            return;
        }
        for _ in capacity..wanted.workers {
            if let Err(nowhere) = self.spawn(model, spec, &wanted.why) {
                return self.has_no_place(model, spec, nowhere);
            }
        }
    }

    fn has_no_place(&mut self, model: &ModelName, spec: &ModelSpec, nowhere: Nowhere) {
        let demanded = self.fleet.demand.contains_key(model);
        if demanded && let Some((key, why)) = replace::swapped_out(&self.fleet, model, spec, &nowhere.crowded, self.now)
        {
            return self.stop(&key, why);
        }
        // Whoever waits is told, unless a worker that starts may yet serve it, or waiting may help.
        let is_hopeless = nowhere.outlook == Outlook::Stays && self.fleet.capacity(model) == 0;
        let (model, failure) = (model.clone(), nowhere.failure);
        self.orders.push(if demanded && is_hopeless {
            Order::Refuse { model, failure }
        } else {
            Order::Unplaceable { model, failure }
        });
    }

    fn idle(&mut self, model: &ModelName, spec: &ModelSpec) {
        if spec.pinned || self.fleet.demand.contains_key(model) {
            return;
        }
        let spare = self.fleet.capacity(model).saturating_sub(spec.replicas.min);
        let is_over = |worker: &Worker| worker.is_idle() && self.now >= worker.idle_since + spec.idle_timeout;
        let idle = self.fleet.serving(model).filter(|(_, worker)| is_over(worker)).take(spare as usize);
        for key in idle.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.stop(&key, format!("idle for {:?}", spec.idle_timeout));
        }
    }

    /// A worker in a crash loop is its hive's to try again, until others have taken its place.
    fn looped(&mut self, model: &ModelName, spec: &ModelSpec) {
        let Some(((hive, name), _)) = self.fleet.serving(model).find(|(_, worker)| worker.is_ready()) else { return };
        let why = format!("it is in a crash loop, and {name} on {hive} serves {model}");
        let looping: Vec<WorkerKey> = self
            .fleet
            .workers_for(model)
            .filter(|((hive, _), worker)| {
                worker.record.phase == WorkerPhase::CrashLoop
                    && worker.told_to_stop.is_none()
                    && self.fleet.is_there(hive)
            })
            .map(|(key, _)| key.clone())
            .collect();
        let workers = self.fleet.capacity(model) as usize + looping.len();
        let beyond = workers.saturating_sub(spec.replicas.max as usize);
        for key in looping.iter().take(beyond) {
            self.stop(key, why.clone());
        }
    }

    fn unwanted(&mut self) {
        let mut unwanted = Vec::new();
        for (key, worker) in &self.fleet.workers {
            if worker.told_to_stop.is_some() || !self.fleet.is_there(&key.0) {
                continue;
            }
            let model = &worker.record.model;
            match worker.record.phase {
                WorkerPhase::Failed => unwanted.push((key.clone(), "it has failed".to_owned())),
                _ if !self.fleet.models.contains_key(model) => {
                    unwanted.push((key.clone(), format!("model {model} is no longer declared")));
                }
                _ => {}
            }
        }
        for (key, why) in unwanted {
            self.stop(&key, why);
        }
    }
}

/// How many workers a model is to have.
fn wanted(fleet: &Fleet, model: &ModelName, spec: &ModelSpec, now: Instant) -> Wanted {
    let demanded = u32::from(fleet.demand.contains_key(model));
    let of_minimum = demanded.clamp(spec.replicas.min, spec.replicas.max);
    if let Some((workers, why)) = for_the_queue(fleet, model, spec, now).filter(|(workers, _)| *workers > of_minimum) {
        return Wanted { workers, why };
    }
    let why = if demanded > 0 && spec.replicas.min == 0 {
        "jobs wait and no worker serves them".to_owned()
    } else {
        format!("at least {of_minimum} are to serve it")
    };
    Wanted { workers: of_minimum, why }
}

/// How many workers the waiting jobs are worth: one more as long as the last of them would wait for longer than a new worker
/// takes to start. Nothing where a slot is free: the jobs are on their way.
fn for_the_queue(fleet: &Fleet, model: &ModelName, spec: &ModelSpec, now: Instant) -> Option<(u32, String)> {
    let queue = fleet.queues.get(model).filter(|queue| queue.waiting() > 0)?;
    let ready = || fleet.serving(model).filter(|(_, worker)| worker.is_ready());
    if ready().count() == 0 || ready().any(|(_, worker)| worker.jobs.len() < worker.record.slots as usize) {
        return None;
    }
    let have = fleet.capacity(model);
    let worth = queue.start().unwrap_or(fleet.timers.start).max(fleet.timers.wait);
    let slots = |workers: u32| u64::from(workers) * u64::from(spec.slots);
    let mut workers = have;
    if queue.answer().is_some() {
        while workers < spec.replicas.max && queue.expected_wait(slots(workers), now) > worth {
            workers += 1;
        }
    } else {
        // How long an answer takes is not known yet: one worker at a time.
        let all_ready = ready().count() == have as usize;
        let is_long = queue.expected_wait(slots(have), now) >= fleet.timers.wait;
        workers += u32::from(all_ready && is_long && have < spec.replicas.max);
    }
    let wait = queue.expected_wait(slots(have), now);
    let why = format!(
        "{} jobs wait for {} slots, the last for some {wait:.1?}, and a worker starts in {worth:.1?}",
        queue.waiting(),
        slots(have)
    );
    (workers > have).then_some((workers, why))
}

#[cfg(test)]
mod tests;
