//! How many workers each model is to have: what is missing is ordered, what is idle or unwanted is stopped.

use std::time::Instant;

use rbee_schema::{Failure, HiveName, ModelName, ModelSpec, WorkerPhase};

use crate::decide::{
    fleet::{Fleet, WorkerKey},
    place::{Outlook, place},
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
        /// Why there, in words.
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
    let mut orders = Vec::new();
    for (model, spec) in &fleet.models {
        orders.extend(missing(fleet, model, spec, now));
        orders.extend(idle(fleet, model, spec, now));
        orders.extend(replaced(fleet, model, spec));
    }
    orders.extend(unwanted(fleet));
    orders
}

/// When [`orders`] may have another answer although nothing was heard.
pub fn next_look(fleet: &Fleet, now: Instant) -> Option<Instant> {
    let retries = fleet.held.ends();
    let idle = fleet.workers.values().filter_map(|worker| {
        let spec = fleet.models.get(&worker.record.model).filter(|spec| !spec.pinned)?;
        let is_idle = worker.record.phase == WorkerPhase::Ready && worker.jobs.is_empty() && !worker.told_to_stop;
        is_idle.then(|| worker.idle_since + spec.idle_timeout)
    });
    retries.chain(idle).chain(fleet.next_stale_order()).filter(|at| *at > now).min()
}

fn missing(fleet: &Fleet, model: &ModelName, spec: &ModelSpec, now: Instant) -> Vec<Order> {
    let demanded = u32::from(fleet.demand.contains_key(model));
    let wanted = demanded.clamp(spec.replicas.min, spec.replicas.max);
    let capacity = fleet.capacity(model);
    if capacity >= wanted {
        return Vec::new();
    }
    if let Some(failure) = fleet.held.everywhere(model) {
        let refuse = || Order::Refuse { model: model.clone(), failure: failure.clone() };
        return (demanded > 0).then(refuse).into_iter().collect();
    }
    let mut fleet = fleet.clone();
    let mut orders = Vec::new();
    for number in capacity..wanted {
        match place(&fleet, model, now) {
            Ok((hive, why)) => {
                let order = format!("{model}-{number}");
                let key = (hive.clone(), rbee_schema::WorkerName::from_lossy(&order));
                fleet.ordered(key, model.clone(), now);
                orders.push(Order::Spawn { model: model.clone(), spec: spec.clone(), hive, why });
            }
            Err(nowhere) => {
                // Whoever waits is told, unless a worker that starts may yet serve it, or waiting may help.
                let is_hopeless = nowhere.outlook == Outlook::Stays && fleet.capacity(model) == 0;
                let (model, failure) = (model.clone(), nowhere.failure);
                orders.push(if demanded > 0 && is_hopeless {
                    Order::Refuse { model, failure }
                } else {
                    Order::Unplaceable { model, failure }
                });
                break;
            }
        }
    }
    orders
}

fn idle(fleet: &Fleet, model: &ModelName, spec: &ModelSpec, now: Instant) -> Vec<Order> {
    if spec.pinned || fleet.demand.contains_key(model) {
        return Vec::new();
    }
    let spare = fleet.capacity(model).saturating_sub(spec.replicas.min);
    let idle = fleet.serving(model).filter(|(_, worker)| {
        worker.record.phase == WorkerPhase::Ready
            && worker.jobs.is_empty()
            && now >= worker.idle_since + spec.idle_timeout
    });
    idle.take(spare as usize)
        .map(|(key, _)| Order::Stop { worker: key.clone(), why: format!("idle for {:?}", spec.idle_timeout) })
        .collect()
}

/// A worker in a crash loop is its hive's to try again, until others have taken its place.
fn replaced(fleet: &Fleet, model: &ModelName, spec: &ModelSpec) -> Vec<Order> {
    let looping = || {
        fleet.workers.iter().filter(|((hive, _), worker)| {
            worker.record.model == *model
                && worker.record.phase == WorkerPhase::CrashLoop
                && !worker.told_to_stop
                && fleet.hives.contains_key(hive)
        })
    };
    let Some(((hive, name), _)) = fleet.serving(model).find(|(_, worker)| worker.record.phase == WorkerPhase::Ready)
    else {
        return Vec::new();
    };
    let workers = fleet.capacity(model) as usize + looping().count();
    let beyond = workers.saturating_sub(spec.replicas.max as usize);
    let why = format!("it is in a crash loop, and {name} on {hive} serves {model}");
    looping().take(beyond).map(|(key, _)| Order::Stop { worker: key.clone(), why: why.clone() }).collect()
}

fn unwanted(fleet: &Fleet) -> Vec<Order> {
    let mut orders = Vec::new();
    for (key, worker) in &fleet.workers {
        if worker.told_to_stop || !fleet.hives.contains_key(&key.0) {
            continue;
        }
        let model = &worker.record.model;
        let why = match worker.record.phase {
            WorkerPhase::Failed => "it has failed".to_owned(),
            _ if !fleet.models.contains_key(model) => format!("model {model} is no longer declared"),
            _ => continue,
        };
        orders.push(Order::Stop { worker: key.clone(), why });
    }
    orders
}

#[cfg(test)]
mod tests;
