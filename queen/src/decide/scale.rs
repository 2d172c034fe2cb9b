//! How many workers each model is to have: what is missing is ordered, what is idle or unwanted is stopped.

use std::{collections::BTreeSet, time::Instant};

use rbee_schema::{Failure, HiveName, ModelName, ModelSpec, WorkerName, WorkerPhase};

use crate::decide::{
    fleet::{Fleet, Worker, WorkerKey},
    liveness::Presence,
    place::{Nowhere, Outlook, place},
    replace,
    touched::Scope,
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

/// What is to be done now. What is ordered counts as done from now on, but for spawns: their workers have no name yet.
pub fn orders(fleet: &mut Fleet, scope: &Scope, now: Instant) -> Vec<Order> {
    let active: Vec<(ModelName, ModelSpec)> =
        fleet.active(scope).into_iter().map(|(model, spec)| (model.clone(), spec.clone())).collect();
    let mut plan =
        Plan { fleet: &mut *fleet, now, orders: Vec::new(), thought_of: Vec::new(), unsettled: BTreeSet::new() };
    for (model, spec) in &active {
        if plan.is_settled(model, spec) {
            continue;
        }
        let before = plan.orders.len();
        plan.missing(model, spec);
        plan.replaced(model, spec);
        plan.idle(model, spec);
        plan.looped(model, spec);
        plan.failed(model);
        if plan.orders.len() > before {
            plan.unsettled.insert(model.clone());
        }
    }
    plan.undeclared(scope);
    let Plan { orders, thought_of, unsettled, .. } = plan;
    for key in thought_of {
        fleet.not_ordered(&key);
    }
    fleet.touched.looked_at(scope, unsettled);
    orders
}

/// When [`orders`] may have another answer for these models although nothing was heard.
pub fn next_look(fleet: &Fleet, scope: &Scope, now: Instant) -> Option<Instant> {
    let has_demand = !fleet.demand.is_empty();
    let workers: Box<dyn Iterator<Item = &Worker> + '_> = match scope {
        Scope::Models(models) if !has_demand => {
            Box::new(models.iter().flat_map(|model| fleet.workers_for(model)).map(|(_, worker)| worker))
        }
        // Whoever is in demand may take the place of any other.
        Scope::Models(_) | Scope::Everything => Box::new(fleet.workers.values()),
    };
    let ends = workers.filter_map(|worker| {
        if let Some(told) = worker.told_to_stop {
            return Some(told + fleet.timers.order);
        }
        if !worker.is_idle() {
            return None;
        }
        let model = &worker.record.model;
        let spec = fleet.models.get(model).filter(|spec| !spec.pinned)?;
        let resident = worker.ready_since.filter(|_| has_demand);
        let swap = resident.map(|since| since + fleet.timers.residency).filter(|at| *at > now);
        let is_spare = fleet.most(model) > spec.replicas.min as usize;
        swap.into_iter().chain(is_spare.then_some(worker.idle_since + spec.idle_timeout)).min()
    });
    let waits = fleet.queues.values().filter(|queue| queue.answer().is_none());
    let waits = waits.filter_map(|queue| Some(queue.since()? + fleet.timers.wait));
    fleet.held.ends().chain(ends).chain(waits).chain(fleet.next_change()).filter(|at| *at > now).min()
}

/// The orders so far, and the fleet as it will be when they are carried out.
pub(super) struct Plan<'a> {
    pub(super) fleet: &'a mut Fleet,
    pub(super) now: Instant,
    pub(super) orders: Vec<Order>,
    /// Spawns of this plan.
    thought_of: Vec<WorkerKey>,
    /// Models of which something is left to be done.
    unsettled: BTreeSet<ModelName>,
}

/// How many workers a model is to have, and why more than it would have without jobs.
struct Wanted {
    workers: u32,
    why: String,
}

impl Plan<'_> {
    /// Orders a worker where there is a place for it.
    pub(super) fn spawn(&mut self, model: &ModelName, spec: &ModelSpec, why: &str) -> Result<(), Nowhere> {
        let (hive, where_) = place(self.fleet, model, spec, self.now)?;
        let number = self.orders.len();
        let key = (hive.clone(), WorkerName::from_lossy(&format!("planned-{number}")));
        self.fleet.ordered(key.clone(), model.clone(), self.now);
        self.thought_of.push(key);
        let why = format!("{why}; {where_}");
        self.orders.push(Order::Spawn { model: model.clone(), spec: spec.clone(), hive, why });
        Ok(())
    }

    /// Orders the end of a worker.
    pub(super) fn stop(&mut self, key: &WorkerKey, why: String) {
        self.fleet.told_to_stop(key, self.now);
        self.orders.push(Order::Stop { worker: key.clone(), why });
    }

    /// Whether nothing is to be decided of a model: it has as many workers as it may, each of them as it should be, and
    /// nobody waits. That is how nearly all of a large fleet is nearly always.
    fn is_settled(&self, model: &ModelName, spec: &ModelSpec) -> bool {
        let fleet = &*self.fleet;
        let waits = fleet.queues.get(model).is_some_and(|queue| queue.waiting() > 0);
        if waits || fleet.demand.contains_key(model) {
            return false;
        }
        let (mut serving, mut may_go) = (fleet.orders_for(model), false);
        for ((hive, _), worker) in fleet.workers_for(model) {
            let Some(hive) = fleet.hives.get(hive).filter(|hive| hive.liveness.presence() != Presence::Lost) else {
                continue;
            };
            if worker.told_to_stop.is_some() {
                continue;
            }
            let is_as_declared = worker.record.spec.as_ref().is_none_or(|found| spec.runs_like(found));
            if hive.record.draining || !worker.counts() || worker.looping.is_some() || !is_as_declared {
                return false;
            }
            may_go |= worker.is_idle() && !spec.pinned && self.now >= worker.idle_since + spec.idle_timeout;
            serving += 1;
        }
        let (min, max) = (spec.replicas.min as usize, spec.replicas.max as usize);
        (min..=max).contains(&serving) && !(may_go && serving > min)
    }

    fn missing(&mut self, model: &ModelName, spec: &ModelSpec) {
        let demanded = self.fleet.demand.contains_key(model);
        let wanted = wanted(self.fleet, model, spec, self.now);
        let capacity = self.fleet.capacity(model);
        if capacity >= wanted.workers {
            return;
        }
        self.unsettled.insert(model.clone());
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
        if demanded && let Some((key, why)) = replace::swapped_out(self.fleet, model, spec, &nowhere.crowded, self.now)
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

    fn failed(&mut self, model: &ModelName) {
        self.unwanted(model, "it has failed", |worker| worker.record.phase == WorkerPhase::Failed);
    }

    /// The workers of models that are no longer declared.
    fn undeclared(&mut self, scope: &Scope) {
        let is_gone = |model: &&ModelName| !self.fleet.models.contains_key(*model);
        let gone: Vec<ModelName> = match scope {
            Scope::Everything => self.fleet.models_with_workers().filter(is_gone).cloned().collect(),
            Scope::Models(models) => models.iter().filter(is_gone).cloned().collect(),
        };
        for model in gone {
            self.failed(&model);
            self.unwanted(&model, &format!("model {model} is no longer declared"), |_| true);
        }
    }

    fn unwanted(&mut self, model: &ModelName, why: &str, is_unwanted: impl Fn(&Worker) -> bool) {
        let workers = self.fleet.workers_for(model).filter(|((hive, _), worker)| {
            worker.told_to_stop.is_none() && self.fleet.is_there(hive) && is_unwanted(worker)
        });
        for key in workers.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.stop(&key, why.to_owned());
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
