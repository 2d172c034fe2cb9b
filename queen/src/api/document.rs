//! Documents about the fleet, one model and one worker.

use std::time::Instant;

use rbee_schema::{
    Failure, FailureCode, ModelName, WorkerPhase,
    api::{Explanation, Model, ModelRequest, PlacementCandidate, Status, Worker, WorkerRequest},
};

use super::{context::Context, running::pace};
use crate::{
    decide::{
        fleet::{Fleet, Worker as KnownWorker, WorkerKey},
        overlay::Overlay,
        place::{Candidate, Placement, candidates, place},
        queue::Queue,
    },
    inference::unknown_model,
};

pub(super) fn status(context: &Context<'_>) -> Status {
    let fleet = context.fleet;
    let workers = |phase: fn(WorkerPhase) -> bool| {
        count(fleet.workers().values().filter(|worker| phase(worker.record.phase)).count())
    };
    Status {
        queen: context.queen.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        leads: context.leadership.term().is_some(),
        hives: count(fleet.hives().keys().filter(|hive| fleet.is_present(hive)).count()),
        models: count(fleet.models().len()),
        workers_ready: workers(|phase| phase == WorkerPhase::Ready),
        workers_starting: workers(|phase| phase < WorkerPhase::Ready),
        jobs_running: count(fleet.workers().values().map(|worker| worker.jobs.len()).sum()),
        jobs_queued: fleet.queues().values().map(Queue::waiting).sum(),
        storage_problem: context.bus.storage_problem(),
    }
}

pub(super) fn model(fleet: &Fleet, ModelRequest { model }: ModelRequest) -> Result<Model, Failure> {
    if let Some(failure) = fleet.refused_models().get(&model) {
        return Err(failure.clone());
    }
    model_document(fleet, &model).ok_or_else(|| not_declared(fleet, &model))
}

pub(super) fn model_document(fleet: &Fleet, name: &ModelName) -> Option<Model> {
    let phases: Vec<_> = fleet.serving(name).map(|(_, worker)| worker.record.phase).collect();
    let workers = |matches: fn(WorkerPhase) -> bool| count(phases.iter().filter(|phase| matches(**phase)).count());
    let pace = pace(fleet, name);
    Some(Model {
        name: name.clone(),
        spec: fleet.models().get(name)?.clone(),
        ready: workers(|phase| phase == WorkerPhase::Ready),
        starting: workers(|phase| phase < WorkerPhase::Ready || phase == WorkerPhase::Backoff),
        jobs_running: u32::try_from(fleet.running(name)).unwrap_or(u32::MAX),
        jobs_queued: fleet.waiting(name),
        slots: u32::try_from(pace.slots).unwrap_or(u32::MAX),
        answer_ms: pace.answer_time.and_then(|time| u64::try_from(time.as_millis()).ok()),
        failure: failure(fleet, name).cloned(),
    })
}

/// Failure of a worker of the model, or for which none is started.
fn failure<'a>(fleet: &'a Fleet, model: &ModelName) -> Option<&'a Failure> {
    let mut workers = fleet.workers_for(model);
    let of_worker = workers.find_map(|(_, worker)| worker.record.failure.as_ref());
    of_worker.or_else(|| fleet.backoffs().failure_of(model))
}

/// The failure for a model that is not declared, which lists those that are.
pub(super) fn not_declared(fleet: &Fleet, model: &ModelName) -> Failure {
    unknown_model(model.as_str(), fleet.models().keys().map(ModelName::as_str))
}

pub(super) fn worker(fleet: &Fleet, query: WorkerRequest) -> Result<Worker, Failure> {
    let key = find_worker(fleet, &query)?;
    let document = fleet.worker(&key).map(|worker| worker_document(fleet, &key, worker));
    document.ok_or_else(|| Failure::new(FailureCode::UnknownWorker, format!("worker {} no longer exists", key.1)))
}

pub(super) fn worker_document(fleet: &Fleet, (hive, name): &WorkerKey, worker: &KnownWorker) -> Worker {
    Worker {
        hive: hive.clone(),
        name: name.clone(),
        record: worker.record.clone(),
        jobs: worker.jobs.iter().map(|job| job.job.clone()).collect(),
        tokens: worker.usage.tokens,
        memory_bytes: worker.usage.memory_bytes,
        cache: worker.usage.cache,
        since: worker.recorded_at.map(|stored| humantime::format_rfc3339_millis(stored).to_string()),
        known: fleet.is_present(hive),
    }
}

/// The worker of a name. The query names a hive where several hives have a worker of that name.
pub(super) fn find_worker(fleet: &Fleet, WorkerRequest { worker, hive }: &WorkerRequest) -> Result<WorkerKey, Failure> {
    let matches = |(at, name): &&WorkerKey| name == worker && hive.as_ref().is_none_or(|hive| hive == at);
    let found: Vec<&WorkerKey> = fleet.workers().keys().filter(matches).collect();
    match found.as_slice() {
        [only] => Ok((*only).clone()),
        [] => {
            let message = format!("there is no worker {worker}: `rbee ps` lists the workers");
            Err(Failure::new(FailureCode::UnknownWorker, message))
        }
        several => {
            let hives: Vec<&str> = several.iter().map(|(hive, _)| hive.as_str()).collect();
            let message = format!("{} hives have a worker {worker}: name one of {}", hives.len(), hives.join(", "));
            Err(Failure::new(FailureCode::InvalidRequest, message))
        }
    }
}

/// The hive that would get the next worker of a model, and the reasons for and against each hive.
pub(super) fn explain(fleet: &Fleet, ModelRequest { model }: ModelRequest) -> Result<Explanation, Failure> {
    let (overlay, now) = (Overlay::new(fleet), Instant::now());
    let spec = fleet.models().get(&model).ok_or_else(|| not_declared(fleet, &model))?;
    let opinion = |Candidate { hive, suitability }: Candidate<'_>| PlacementCandidate {
        hive: hive.clone(),
        fits: suitability.is_ok(),
        why: match &suitability {
            Ok(rank) => rank.to_string(),
            Err(rejection) => rejection.to_string(),
        },
    };
    let hives = candidates(&overlay, &model, spec, now).into_iter().map(opinion).collect();
    let (hive, why) = match (fleet.backoffs().of_model(&model), place(&overlay, &model, spec, now)) {
        (Some(failure), _) => (None, format!("it is not started again until a new job asks for it: {failure}")),
        (None, Ok(Placement { hive, why })) => (Some(hive.clone()), why),
        (None, Err(no_placement)) => (None, no_placement.failure.to_string()),
    };
    Ok(Explanation { model, hive, why, hives })
}

pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
