//! What is known of the fleet, as documents.

use std::{collections::BTreeMap, fmt::Display, ops::Bound, str::FromStr, time::Instant};

use rbee_schema::{
    Failure, FailureCode, HiveName, ModelName, WorkerPhase,
    api::{
        Explanation, Hive, Hives, Model, ModelRequest, Models, PageRequest, PlacementCandidate, RefusedModel, Status,
        Worker, WorkerRequest, Workers,
    },
};

use super::Context;
use crate::{
    decide::{
        fleet::{Fleet, Worker as KnownWorker, WorkerKey},
        place::{place, verdicts},
        queue::Queue,
    },
    infer::unknown_model,
};

pub(super) fn status(context: &Context<'_>) -> Status {
    let fleet = context.fleet;
    let count = |phase: fn(WorkerPhase) -> bool| {
        number(fleet.workers.values().filter(|worker| phase(worker.record.phase)).count())
    };
    Status {
        queen: context.queen.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        leads: context.standing.term().is_some(),
        hives: number(fleet.hives.keys().filter(|hive| fleet.is_there(hive)).count()),
        models: number(fleet.models.len()),
        workers_ready: count(|phase| phase == WorkerPhase::Ready),
        workers_starting: count(|phase| phase < WorkerPhase::Ready),
        jobs_running: number(fleet.workers.values().map(|worker| worker.jobs.len()).sum()),
        jobs_queued: fleet.queues.values().map(Queue::waiting).sum(),
    }
}

/// So many documents stand in one reply: the server takes messages of a megabyte, and one of them has under a kilobyte.
const PAGE: usize = 500;

/// So many declarations that have no effect are told.
const REFUSED: usize = 500;

/// The keys after one of them, and the last of these where there are more.
fn page<K: Ord, V>(all: &BTreeMap<K, V>, after: Option<K>) -> (Vec<&K>, Option<&K>) {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut keys: Vec<&K> = all.range((from, Bound::Unbounded)).take(PAGE + 1).map(|(key, _)| key).collect();
    let has_more = keys.len() > PAGE;
    keys.truncate(PAGE);
    let next = keys.last().copied().filter(|_| has_more);
    (keys, next)
}

/// Reads what an earlier page said in `next`.
fn after<K: FromStr<Err: Display>>(PageRequest { after }: &PageRequest) -> Result<Option<K>, Failure> {
    let wrong = |error: K::Err| Failure::new(FailureCode::InvalidRequest, format!("`after` is no `next`: {error}"));
    after.as_ref().map(|after| after.parse().map_err(wrong)).transpose()
}

pub(super) fn models(fleet: &Fleet, asked: PageRequest) -> Result<Models, Failure> {
    let refused =
        |(name, failure): (&ModelName, &Failure)| RefusedModel { name: name.clone(), failure: failure.clone() };
    let after = after(&asked)?;
    let is_first = after.is_none();
    let (names, next) = page(&fleet.models, after);
    Ok(Models {
        models: names.into_iter().filter_map(|name| one_model(fleet, name)).collect(),
        refused: fleet.refused.iter().filter(|_| is_first).take(REFUSED).map(refused).collect(),
        next: next.map(ToString::to_string),
    })
}

fn one_model(fleet: &Fleet, name: &ModelName) -> Option<Model> {
    let phases: Vec<_> = fleet.serving(name).map(|(_, worker)| worker.record.phase).collect();
    let count = |wanted: fn(WorkerPhase) -> bool| number(phases.iter().filter(|phase| wanted(**phase)).count());
    Some(Model {
        name: name.clone(),
        spec: fleet.models.get(name)?.clone(),
        ready: count(|phase| phase == WorkerPhase::Ready),
        starting: count(|phase| phase < WorkerPhase::Ready || phase == WorkerPhase::Backoff),
        jobs_running: u32::try_from(fleet.running(name)).unwrap_or(u32::MAX),
        jobs_queued: fleet.queues.get(name).map_or(0, |queue| queue.waiting()),
    })
}

pub(super) fn model(fleet: &Fleet, ModelRequest { model }: ModelRequest) -> Result<Model, Failure> {
    if let Some(failure) = fleet.refused.get(&model) {
        return Err(failure.clone());
    }
    one_model(fleet, &model).ok_or_else(|| unknown(fleet, &model))
}

pub(super) fn unknown(fleet: &Fleet, model: &ModelName) -> Failure {
    unknown_model(model.as_str(), fleet.models.keys().map(ModelName::as_str))
}

pub(super) fn hives(fleet: &Fleet, asked: PageRequest) -> Result<Hives, Failure> {
    let hive = |name: &HiveName| {
        let known = fleet.hives.get(name)?;
        Some(Hive {
            name: name.clone(),
            record: known.record.clone(),
            workers: number(fleet.load(name)),
            presence: known.liveness.presence().as_str().to_owned(),
            free: known.free,
        })
    };
    let (names, next) = page(&fleet.hives, after(&asked)?);
    Ok(Hives { hives: names.into_iter().filter_map(hive).collect(), next: next.map(ToString::to_string) })
}

pub(super) fn workers(fleet: &Fleet, PageRequest { after }: PageRequest) -> Result<Workers, Failure> {
    let wrong = || {
        let message = "`after` is no `next`: expected HIVE/WORKER".to_owned();
        Failure::new(FailureCode::InvalidRequest, message)
    };
    let key = |text: String| {
        let (hive, worker) = text.split_once('/')?;
        Some((hive.parse().ok()?, worker.parse().ok()?))
    };
    let after: Option<WorkerKey> = after.map(|text| key(text).ok_or_else(wrong)).transpose()?;
    let (keys, next) = page(&fleet.workers, after);
    let worker = |key: &WorkerKey| Some(one_worker(fleet, key, fleet.workers.get(key)?));
    let next = next.map(|(hive, worker)| format!("{hive}/{worker}"));
    Ok(Workers { workers: keys.into_iter().filter_map(worker).collect(), next })
}

fn one_worker(fleet: &Fleet, (hive, name): &WorkerKey, worker: &KnownWorker) -> Worker {
    Worker {
        hive: hive.clone(),
        name: name.clone(),
        record: worker.record.clone(),
        jobs: worker.jobs.iter().map(|job| job.job.clone()).collect(),
        tokens: worker.tokens,
        memory_bytes: worker.memory_bytes,
        cache: worker.cache,
        since: worker.since.map(|since| humantime::format_rfc3339_millis(since).to_string()),
        known: fleet.is_there(hive),
    }
}

/// The worker that is meant.
pub(super) fn find(fleet: &Fleet, WorkerRequest { worker, hive }: &WorkerRequest) -> Result<WorkerKey, Failure> {
    let is_meant = |(at, name): &&WorkerKey| name == worker && hive.as_ref().is_none_or(|hive| hive == at);
    let found: Vec<&WorkerKey> = fleet.workers.keys().filter(is_meant).collect();
    match found.as_slice() {
        [only] => Ok((*only).clone()),
        [] => {
            let message = format!("there is no worker {worker}; `rbee ps` lists those that are there");
            Err(Failure::new(FailureCode::UnknownWorker, message))
        }
        several => {
            let hives: Vec<&str> = several.iter().map(|(hive, _)| hive.as_str()).collect();
            let message = format!("{} hives have a worker {worker}: name one of {}", hives.len(), hives.join(", "));
            Err(Failure::new(FailureCode::InvalidRequest, message))
        }
    }
}

pub(super) fn worker(fleet: &Fleet, asked: WorkerRequest) -> Result<Worker, Failure> {
    let key = find(fleet, &asked)?;
    let known = fleet.workers.get(&key).map(|worker| one_worker(fleet, &key, worker));
    known.ok_or_else(|| Failure::new(FailureCode::UnknownWorker, format!("worker {} is gone", key.1)))
}

/// Where another worker of a model would go, and why.
pub(super) fn explain(fleet: &Fleet, ModelRequest { model }: ModelRequest) -> Result<Explanation, Failure> {
    let now = Instant::now();
    let spec = fleet.models.get(&model).ok_or_else(|| unknown(fleet, &model))?;
    let opinion = |verdict: crate::decide::place::Verdict<'_>| PlacementCandidate {
        hive: verdict.hive.clone(),
        fits: verdict.suited.is_ok(),
        why: match &verdict.suited {
            Ok(rank) => rank.to_string(),
            Err(obstacle) => obstacle.to_string(),
        },
    };
    let hives = verdicts(fleet, &model, spec, now).into_iter().map(opinion).collect();
    let (hive, why) = match (fleet.held.everywhere(&model), place(fleet, &model, spec, now)) {
        (Some(failure), _) => (None, format!("it is not tried before somebody asks for it again: {failure}")),
        (None, Ok((hive, why))) => (Some(hive), why),
        (None, Err(nowhere)) => (None, nowhere.failure.to_string()),
    };
    Ok(Explanation { model, hive, why, hives })
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
