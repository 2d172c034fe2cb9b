//! Lists of jobs, page by page. A page costs the same however many jobs there are.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use rbee_nats::{Bus, BusError, EndedJob, JobBatch, JobFilter, QueuedJob};
use rbee_schema::{
    DeadJob, Failure, FailureCode, JobEvent, JobId, ModelName, Tenant,
    api::{Job, JobList, JobState, Jobs, JobsRequest},
};

use crate::decide::fleet::Fleet;

/// Jobs in one page. One takes a few hundred bytes, and the server takes messages of a megabyte.
const PAGE_SIZE: usize = 200;

/// Age up to which ended jobs are listed: as long as their output is kept by default.
const ENDED: Duration = Duration::from_secs(60 * 60);

/// Jobs that heartbeats name, and the worker of each as `HIVE/WORKER`.
pub(super) struct Running(HashMap<(Tenant, JobId), String>);

impl Running {
    pub(super) fn of(fleet: &Fleet) -> Self {
        let mut running = HashMap::new();
        for ((hive, name), worker) in fleet.workers() {
            for job in worker.jobs.iter() {
                running.insert((job.tenant.clone(), job.job.clone()), format!("{hive}/{name}"));
            }
        }
        Self(running)
    }
}

/// One page of a list.
pub(super) async fn list(bus: &Bus, running: &Running, request: JobsRequest) -> Result<Jobs, Failure> {
    let JobsRequest { list, model, tenant, after } = request;
    let after = after.map(|after| after.parse::<u64>().map_err(|_| invalid_after(&after))).transpose()?;
    let first = after.unwrap_or(0);
    match list {
        JobList::Open => {
            let filter = JobFilter { model, tenant };
            page(bus.open_jobs(&filter, first, PAGE_SIZE).await, |job| Some(open(running, job)))
        }
        JobList::Ended => {
            let since = SystemTime::now().checked_sub(ENDED).unwrap_or(SystemTime::UNIX_EPOCH);
            page(bus.ended_jobs(tenant.as_ref(), after, since, PAGE_SIZE).await, |job| Some(ended(job)))
        }
        JobList::Dead => {
            let is_meant = |dead: &DeadJob| tenant.as_ref().is_none_or(|tenant| dead.tenant == *tenant);
            let batch = bus.dead_jobs(model.as_ref(), first, PAGE_SIZE).await;
            page(batch, |(model, job, stored)| is_meant(&job).then(|| dead(model, job, stored)))
        }
    }
}

fn page<T>(batch: Result<JobBatch<T>, BusError>, job: impl Fn(T) -> Option<Job>) -> Result<Jobs, Failure> {
    let JobBatch { jobs, next } = batch.map_err(|error| Failure::new(FailureCode::TimedOut, error.to_string()))?;
    Ok(Jobs { jobs: jobs.into_iter().filter_map(job).collect(), next: next.map(|next| next.to_string()) })
}

fn open(Running(running): &Running, queued: QueuedJob) -> Job {
    let QueuedJob { model, class, tenant, job, misnamed, stored, .. } = queued;
    let worker = running.get(&(tenant.clone(), job.clone())).cloned();
    let state = if worker.is_some() { JobState::Running } else { JobState::Queued };
    let failure = misnamed.map(|misnamed| misnamed.failure);
    Job { tenant, job, model, class, state, since: rfc3339(stored), worker, failure }
}

fn ended(EndedJob { tenant, job, event, stored }: EndedJob) -> Job {
    let failure = match event {
        JobEvent::Failed { failure, .. } => Some(failure),
        JobEvent::Started { .. } | JobEvent::Returned { .. } | JobEvent::Blamed(_) | JobEvent::Finished { .. } => None,
    };
    let since = rfc3339(stored);
    Job { tenant, job, model: None, class: None, state: JobState::Finished, since, worker: None, failure }
}

fn dead(model: ModelName, DeadJob { tenant, job, failure, .. }: DeadJob, stored: SystemTime) -> Job {
    let (model, failure, since) = (Some(model), Some(failure), rfc3339(stored));
    Job { tenant, job, model, class: None, state: JobState::Finished, since, worker: None, failure }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

fn invalid_after(found: &str) -> Failure {
    let message = format!("`after` is `{found}`: expected the `next` of an earlier page");
    Failure::new(FailureCode::InvalidRequest, message)
}
