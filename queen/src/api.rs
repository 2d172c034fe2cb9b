//! The operations of the service `rbee`: what is known of the fleet, and jobs by request with streamed replies.

use rbee_nats::{ApiRequest, Bus};
use rbee_schema::{
    Chunk, Failure, FailureCode, JobId, ModelName, QueenName, Tenant, WorkerPhase,
    api::{Cancel, Cancelling, Hive, Hives, Model, Models, Status, Worker, Workers},
};
use tracing::{debug, warn};

use crate::{
    decide::fleet::Fleet,
    infer::{self, Inference, PATIENCE},
};

/// Answers a request from what is known now. Whatever takes time is a task of its own.
pub(crate) fn answer(queen: &QueenName, fleet: &Fleet, bus: &Bus, request: ApiRequest) {
    let bus = bus.clone();
    debug!(operation = request.operation(), "asked");
    match request.operation() {
        "status" => {
            let status = status(queen, fleet);
            tokio::spawn(async move {
                let queued = depths(&bus).await.iter().map(|(_, depth)| depth).sum::<u64>();
                let jobs_queued = queued.saturating_sub(u64::from(status.jobs_running));
                request.reply(&Status { jobs_queued, ..status }).await;
            });
        }
        "models" => {
            let mut models = models(fleet);
            tokio::spawn(async move {
                let depths = depths(&bus).await;
                for model in &mut models.models {
                    let depth = depths.iter().find(|(name, _)| *name == model.name).map_or(0, |(_, depth)| *depth);
                    model.jobs_queued = depth.saturating_sub(u64::from(model.jobs_running));
                }
                request.reply(&models).await;
            });
        }
        "hives" => {
            let hives = hives(fleet);
            tokio::spawn(async move { request.reply(&hives).await });
        }
        "workers" => {
            let workers = workers(fleet);
            tokio::spawn(async move { request.reply(&workers).await });
        }
        "cancel" => {
            tokio::spawn(cancel(bus, request));
        }
        "infer" => {
            tokio::spawn(infer(bus, request));
        }
        other => {
            let failure = Failure::new(FailureCode::InvalidRequest, format!("there is no operation `{other}`"));
            tokio::spawn(async move { request.refuse(&failure).await });
        }
    }
}

async fn depths(bus: &Bus) -> Vec<(ModelName, u64)> {
    bus.queue_depths().await.unwrap_or_else(|error| {
        warn!(%error, "the queue cannot be looked at");
        Vec::new()
    })
}

async fn cancel(bus: Bus, request: ApiRequest) {
    let asked: Result<Cancel, _> = serde_json::from_slice(request.body());
    let Cancel { tenant, job } = match asked {
        Ok(cancel) => cancel,
        Err(error) => {
            let failure = Failure::new(FailureCode::InvalidRequest, format!("expected {{\"job\":\"ID\"}}: {error}"));
            return request.refuse(&failure).await;
        }
    };
    match bus.cancel(&tenant, &job).await {
        Ok(()) => request.reply(&Cancelling { job }).await,
        Err(error) => request.refuse(&Failure::new(FailureCode::TimedOut, error.to_string())).await,
    }
}

/// Replies with every chunk of the job's output, then with an empty message.
async fn infer(bus: Bus, request: ApiRequest) {
    let job = request.message_id().and_then(|id| id.parse().ok()).unwrap_or_else(JobId::generate);
    let tenant = Tenant::default();
    let Inference { mut output, .. } = match infer::start(&bus, &tenant, job, request.body()).await {
        Ok(inference) => inference,
        Err(failure) => return refuse(&request, failure).await,
    };
    loop {
        match output.next(PATIENCE).await {
            Ok(Some(committed)) => request.reply(&committed.chunk).await,
            Ok(None) => return request.end().await,
            Err(error) => {
                return refuse(&request, Failure::new(FailureCode::TimedOut, error.to_string())).await;
            }
        }
    }
}

/// A refused inference is told in the shape of its output: an `error` chunk, and the end.
async fn refuse(request: &ApiRequest, failure: Failure) {
    request.reply(&Chunk::Error { error: failure }).await;
    request.end().await;
}

fn status(queen: &QueenName, fleet: &Fleet) -> Status {
    let count = |phase: fn(WorkerPhase) -> bool| {
        number(fleet.workers.values().filter(|worker| phase(worker.record.phase)).count())
    };
    Status {
        queen: queen.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hives: number(fleet.hives.len()),
        models: number(fleet.models.len()),
        workers_ready: count(|phase| phase == WorkerPhase::Ready),
        workers_starting: count(|phase| phase < WorkerPhase::Ready),
        jobs_running: number(fleet.workers.values().map(|worker| worker.jobs.len()).sum()),
        jobs_queued: 0,
    }
}

fn models(fleet: &Fleet) -> Models {
    let model = |name: &ModelName| {
        let phases: Vec<_> = fleet.serving(name).map(|(_, worker)| worker.record.phase).collect();
        let count = |wanted: fn(WorkerPhase) -> bool| number(phases.iter().filter(|phase| wanted(**phase)).count());
        let running = fleet.workers.values().filter(|worker| worker.record.model == *name);
        Model {
            name: name.clone(),
            spec: fleet.models[name].clone(),
            ready: count(|phase| phase == WorkerPhase::Ready),
            starting: count(|phase| phase < WorkerPhase::Ready || phase == WorkerPhase::Backoff),
            jobs_running: number(running.map(|worker| worker.jobs.len()).sum()),
            jobs_queued: 0,
        }
    };
    Models { models: fleet.models.keys().map(model).collect() }
}

fn hives(fleet: &Fleet) -> Hives {
    let hive = |(name, record): (&rbee_schema::HiveName, &rbee_schema::HiveRecord)| Hive {
        name: name.clone(),
        record: record.clone(),
        workers: number(fleet.load(name)),
    };
    Hives { hives: fleet.hives.iter().map(hive).collect() }
}

fn workers(fleet: &Fleet) -> Workers {
    let workers = fleet.workers.iter().map(|((hive, name), worker)| Worker {
        hive: hive.clone(),
        name: name.clone(),
        record: worker.record.clone(),
        jobs: worker.jobs.iter().map(|job| job.job.clone()).collect(),
        tokens: worker.tokens,
        memory_bytes: worker.memory_bytes,
    });
    Workers { workers: workers.collect() }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
