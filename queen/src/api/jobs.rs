//! Lists of jobs, page by page. A page costs the same however many jobs there are.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use futures::{StreamExt as _, stream};
use rbee_nats::{Bus, BusError, DeadLetter, EndedJob, JobBatch, JobFilter, QueuedJob, rfc3339};
use rbee_schema::{
    DeadJob, Failure, FailureCode, JobEvent, JobFlow, ModelName,
    api::{Job, JobList, JobState, Jobs, JobsRequest},
};
use tracing::debug;

use super::{position::Flows, running::Running};

/// Jobs in one page. One takes a few hundred bytes, and the server takes messages of a megabyte.
const PAGE_SIZE: usize = 200;

/// Size of a page of dead letters in bytes, beyond which it takes no further one. A letter takes up to 400 KiB: the last lines of
/// a worker take the most.
const PAGE_BYTES: usize = 512 * 1024;

/// Age up to which ended jobs are listed: as long as their output is kept by default.
const ENDED: Duration = Duration::from_secs(60 * 60);

/// Requests to the server at a time, for the places of the jobs of a page.
const WINDOW: usize = 16;

/// One page of a list.
pub(super) async fn list(bus: &Bus, running: &Running, request: JobsRequest) -> Result<Jobs, Failure> {
    let JobsRequest { list, model, tenant, after } = request;
    let after = after.map(|after| after.parse::<u64>().map_err(|_| invalid_after(&after))).transpose()?;
    let first = after.unwrap_or(0);
    match list {
        JobList::Open => {
            let batch = bus.open_jobs(&JobFilter { model, tenant }, first, PAGE_SIZE).await;
            let JobBatch { jobs: queued, next } = batch.map_err(unreachable)?;
            let mut jobs: Vec<Job> = queued.iter().map(|job| open(running, job)).collect();
            add_positions(bus, running, after.is_none(), &queued, &mut jobs).await;
            Ok(Jobs { jobs, next: next.map(|next| next.to_string()) })
        }
        JobList::Ended => {
            let since = SystemTime::now().checked_sub(ENDED).unwrap_or(SystemTime::UNIX_EPOCH);
            let JobBatch { jobs, next } =
                bus.ended_jobs(tenant.as_ref(), after, since, PAGE_SIZE).await.map_err(unreachable)?;
            Ok(Jobs { jobs: jobs.into_iter().map(ended).collect(), next: next.map(|next| next.to_string()) })
        }
        JobList::Dead => {
            let batch = bus.dead_jobs(&JobFilter { model, tenant }, first, PAGE_SIZE).await;
            Ok(page_of_letters(batch.map_err(unreachable)?))
        }
    }
}

/// A page of dead letters, cut where it would become too large for a message.
fn page_of_letters(JobBatch { jobs: letters, next }: JobBatch<DeadLetter>) -> Jobs {
    let (mut jobs, mut bytes) = (Vec::new(), 0);
    let count = letters.len();
    for (number, letter) in letters.into_iter().enumerate() {
        let sequence = letter.sequence;
        let job = dead(letter);
        bytes += serde_json::to_vec(&job).map_or(0, |json| json.len());
        jobs.push(job);
        if bytes > PAGE_BYTES && number + 1 < count {
            return Jobs { jobs, next: Some(sequence.to_string()) };
        }
    }
    Jobs { jobs, next: next.map(|next| next.to_string()) }
}

fn open(running: &Running, queued: &QueuedJob) -> Job {
    let QueuedJob { model, class, tenant, job, misnamed, stored, .. } = queued.clone();
    let worker = running.worker_of(&tenant, &job).cloned();
    let state = if worker.is_some() { JobState::Running } else { JobState::Queued };
    let failure = misnamed.map(|misnamed| misnamed.failure);
    Job { tenant, job, model, class, state, since: rfc3339(stored), worker, position: None, failure, dead: None }
}

/// Adds the places of the waiting jobs of a page. The page has every job of a flow between its first and its last one, so one
/// request for each flow is enough, and none on the first page.
async fn add_positions(bus: &Bus, running: &Running, is_first_page: bool, queued: &[QueuedJob], jobs: &mut [Job]) {
    let mut models: BTreeMap<ModelName, BTreeMap<JobFlow, Vec<usize>>> = BTreeMap::new();
    for (number, job) in queued.iter().enumerate().filter(|(number, _)| jobs[*number].state == JobState::Queued) {
        if let (Some(model), Some(flow), None) = (&job.model, job.flow(), &job.misnamed) {
            models.entry(model.clone()).or_default().entry(flow).or_default().push(number);
        }
    }
    let of_model = stream::iter(models).map(|(model, flows)| async move {
        let of_model = Flows::read(bus, running, model).await?;
        let mut positions = Vec::new();
        for (flow, numbers) in flows {
            let Some(first) = numbers.first() else { continue };
            let before = if is_first_page { 0 } else { of_model.ahead(bus, &flow, queued[*first].sequence).await? };
            let ahead = |(place, number)| (number, of_model.position(&flow, before + place));
            positions.extend((0..).zip(numbers).map(ahead));
        }
        Ok::<_, BusError>(positions)
    });
    let mut of_models = of_model.buffer_unordered(WINDOW);
    while let Some(positions) = of_models.next().await {
        match positions {
            Ok(positions) => positions.into_iter().for_each(|(number, place)| jobs[number].position = Some(place)),
            Err(error) => debug!(%error, "the places of waiting jobs could not be read"),
        }
    }
}

fn ended(EndedJob { tenant, job, event, stored }: EndedJob) -> Job {
    let failure = match event {
        JobEvent::Failed { failure, .. } => Some(failure),
        JobEvent::Started { .. }
        | JobEvent::Paused { .. }
        | JobEvent::Returned { .. }
        | JobEvent::Blamed(_)
        | JobEvent::Finished { .. }
        | JobEvent::Retried { .. }
        | JobEvent::Resubmitted { .. } => None,
    };
    let (state, since) = (JobState::Finished, rfc3339(stored));
    let (model, class, worker, position, dead) = (None, None, None, None, None);
    Job { tenant, job, model, class, state, since, worker, position, failure, dead }
}

fn dead(DeadLetter { model, dead, stored, .. }: DeadLetter) -> Job {
    let dead = DeadJob { body: String::new(), ..dead };
    Job {
        tenant: dead.tenant.clone(),
        job: dead.job.clone(),
        model: Some(model),
        class: dead.submitted.as_ref().map(|submitted| submitted.class),
        state: JobState::Finished,
        since: rfc3339(stored),
        worker: None,
        position: None,
        failure: Some(dead.failure.clone()),
        dead: Some(Box::new(dead)),
    }
}

fn unreachable(error: BusError) -> Failure {
    Failure::new(FailureCode::TimedOut, error.to_string())
}

fn invalid_after(found: &str) -> Failure {
    let message = format!("`after` is `{found}`: expected the `next` of an earlier page");
    Failure::new(FailureCode::InvalidRequest, message)
}
