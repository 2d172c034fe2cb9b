//! The story of one job, from what is stored about it. Everything is read by the subjects of the job and of its workers, and
//! bounded, so the cost does not depend on the number of jobs and events.

use std::{collections::BTreeSet, time::SystemTime};

use futures::{StreamExt as _, stream};
use rbee_nats::{
    Bus, BusError, DeadLetter, EventRecord, JobFinder, JobHistory, OutputEnds, QueuedJob, Subject, rfc3339, unknown_job,
};
use rbee_schema::{
    DeadJob, Failure, FailureCode, HiveName, JobEvent, JobId, JobRun, ModelName, QueenEvent, SubmittedJob, Tenant,
    WorkerName,
    api::{Explanation, JobState, JobStep, JobStory, JobStoryRequest, JobWait, Model, ModelRequest},
};
use tracing::debug;

use super::{position::Flows, running::Running};
use crate::decide::{
    story::{Fact, Milestones, Step, steps, timings},
    wait::why_waits,
};

/// Events of queens that are read for one job: placements of all models while it waited.
const QUEEN_EVENTS: usize = 300;

/// Events that are read of one worker.
const WORKER_EVENTS: usize = 200;

/// Workers whose events are read: those that were started while the job waited, and those that ran it.
const WORKERS: usize = 8;

/// Requests to the server at a time.
const WINDOW: usize = 8;

type WorkerKey = (HiveName, WorkerName);

/// Handles of a task that tells a story.
pub(super) struct Teller {
    pub(super) bus: Bus,
    pub(super) finder: JobFinder,
    pub(super) running: Running,
}

/// Everything that is stored under the names of a job.
struct Records {
    queued: Option<QueuedJob>,
    history: JobHistory,
    output: Option<OutputEnds>,
    cancelled: Option<SystemTime>,
    dead: Option<DeadLetter>,
}

impl Teller {
    /// The story of a job.
    ///
    /// # Errors
    /// `unknown-job` if nothing is stored of the job, or `timed-out` if the server does not answer.
    pub(super) async fn tell(&self, JobStoryRequest { tenant, job }: JobStoryRequest) -> Result<JobStory, Failure> {
        let unreachable = |error: BusError| Failure::new(FailureCode::TimedOut, error.to_string());
        let records = self.read(&tenant, &job).await.map_err(unreachable)?;
        if records.is_empty() {
            return Err(unknown_job(&tenant, &job));
        }
        let runs = records.history.runs();
        let submitted = records.submitted();
        let queued = submitted.as_ref().and_then(|submitted| humantime::parse_rfc3339(&submitted.queued).ok());
        let (begun, ended) = (records.begun(), records.ended());
        let now = SystemTime::now();
        let mut facts = records.facts(&submitted, queued);
        let mut missing = Vec::new();
        if records.history.is_cut {
            missing.push("the job has more events than were read".to_owned());
        }
        if let (Some(from), Some(SubmittedJob { model, .. })) = (queued, &submitted) {
            let window = Window { from, begun: begun.or(ended).unwrap_or(now), until: ended.unwrap_or(now) };
            let told = self.surroundings(model, &runs, window, &mut missing).await;
            facts.extend(told.map_err(unreachable)?);
        }
        let worker = self.running.worker_of(&tenant, &job);
        let state = records.state(worker.is_some());
        let waiting = match (&records.queued, state) {
            (Some(queued), JobState::Queued) => Some(self.wait(queued).await),
            _ => None,
        };
        let milestones = records.milestones(queued);
        let (retried_as, retry_of) = records.links();
        Ok(JobStory {
            state,
            waiting,
            runs,
            timings: timings(&milestones, now),
            failure: records.failure(),
            dead: records.dead.map(|letter| Box::new(DeadJob { body: String::new(), ..letter.dead })),
            retried_as,
            retry_of,
            steps: steps(facts).into_iter().map(document).collect(),
            missing,
            submitted,
            tenant,
            job,
        })
    }

    async fn read(&self, tenant: &Tenant, job: &JobId) -> Result<Records, BusError> {
        let bus = &self.bus;
        let (history, output, cancelled, dead) = futures::try_join!(
            bus.job_history(tenant, job),
            bus.output_ends(tenant, job),
            bus.cancelled_at(tenant, job),
            bus.dead_letter(tenant, job),
        )?;
        // The queue has no index of ids until one is needed.
        let is_over = output.as_ref().is_some_and(|output| output.is_complete);
        let queued = if is_over { None } else { self.finder.find(tenant, job).await? };
        Ok(Records { queued, history, output, cancelled, dead })
    }

    /// Facts about the workers that the job waited for, and about those that ran it.
    async fn surroundings(
        &self,
        model: &ModelName,
        runs: &[JobRun],
        window: Window,
        missing: &mut Vec<String>,
    ) -> Result<Vec<(SystemTime, Fact)>, BusError> {
        let namespace = self.bus.namespace();
        let mut facts = Vec::new();
        for filter in [namespace.all_placements(), namespace.all_unplaceable()] {
            let events = self.bus.first_events(&filter, window.from, QUEEN_EVENTS).await?;
            if events.len() == QUEEN_EVENTS && events.last().is_some_and(|last| last.stored < window.begun) {
                missing.push("more workers were placed while the job waited than were read".to_owned());
            }
            let events = events.iter().filter(|event| event.stored <= window.begun);
            facts.extend(events.filter_map(|event| of_queen(event, model)));
        }
        let placed = facts.iter().filter_map(|(_, fact)| match fact {
            Fact::Queen(QueenEvent::Placed { hive, worker, .. }) => Some((hive.clone(), worker.clone())),
            _ => None,
        });
        let ran: BTreeSet<WorkerKey> = runs.iter().map(|run| (run.hive.clone(), run.worker.clone())).collect();
        let waited_for: BTreeSet<WorkerKey> = placed.filter(|worker| !ran.contains(worker)).collect();
        if ran.len() + waited_for.len() > WORKERS {
            missing.push(format!("the events of {WORKERS} workers were read, and more were involved"));
        }
        let until_end = ran.into_iter().map(|worker| (worker, window.until));
        let until_begun = waited_for.into_iter().map(|worker| (worker, window.begun));
        let reads = stream::iter(until_end.chain(until_begun).take(WORKERS)).map(|(worker, until)| async move {
            let filter = namespace.events_of_worker(&worker.0, &worker.1);
            let events = self.bus.first_events(&filter, window.from, WORKER_EVENTS).await?;
            let events = events.iter().filter(|event| event.stored <= until);
            Ok::<_, BusError>(events.filter_map(|event| self.of_worker(event)).collect::<Vec<_>>())
        });
        let mut reads = reads.buffer_unordered(WINDOW);
        while let Some(events) = reads.next().await {
            facts.extend(events?);
        }
        Ok(facts)
    }

    fn of_worker(&self, event: &EventRecord) -> Option<(SystemTime, Fact)> {
        let Subject::WorkerEvent(hive, worker, _) = self.bus.parse(&event.subject)? else { return None };
        Some((event.stored, Fact::Worker(hive, worker, serde_json::from_slice(&event.body).ok()?)))
    }

    /// The wait of a queued job. The state of its model is asked for as a client asks: only the owner of the fleet knows it.
    async fn wait(&self, queued: &QueuedJob) -> JobWait {
        let Some(model) = queued.model.clone() else {
            return JobWait { why: "the job is invalid, and is about to be refused".to_owned(), position: None };
        };
        let request = ModelRequest { model: model.clone() };
        let why = match self.bus.request::<_, Model>("model", &request).await {
            Ok(model) if model.ready == 0 && model.starting == 0 => {
                let placement: Result<Explanation, Failure> = self.bus.request("explain", &request).await;
                why_waits(&model, placement.ok().as_ref())
            }
            Ok(model) => why_waits(&model, None),
            Err(failure) => failure.message,
        };
        let position = async {
            let Some(flow) = queued.flow() else { return Ok(None) };
            let flows = Flows::read(&self.bus, &self.running, model).await?;
            let ahead = flows.ahead(&self.bus, &flow, queued.sequence).await?;
            Ok::<_, BusError>(Some(flows.position(&flow, ahead)))
        };
        let position = position.await.unwrap_or_else(|error| {
            debug!(%error, "the place of a waiting job could not be read");
            None
        });
        JobWait { why, position }
    }
}

/// Times between which the surroundings of a job matter.
#[derive(Debug, Clone, Copy)]
struct Window {
    /// The job was queued.
    from: SystemTime,
    /// The job began, or its wait ended otherwise.
    begun: SystemTime,
    /// The job ended.
    until: SystemTime,
}

fn of_queen(event: &EventRecord, model: &ModelName) -> Option<(SystemTime, Fact)> {
    let found: QueenEvent = serde_json::from_slice(&event.body).ok()?;
    let is_meant = match &found {
        QueenEvent::Placed { model: of, .. } | QueenEvent::Unplaceable { model: of, .. } => of == model,
        _ => false,
    };
    is_meant.then_some((event.stored, Fact::Queen(found)))
}

fn document(Step { at, event, text }: Step) -> JobStep {
    JobStep { at: rfc3339(at), event: event.to_owned(), text }
}

impl Records {
    fn is_empty(&self) -> bool {
        self.queued.is_none() && self.history.events.is_empty() && self.output.is_none() && self.dead.is_none()
    }

    /// The job as it was queued: from the queue, its events, or its dead letter.
    fn submitted(&self) -> Option<SubmittedJob> {
        let queued = self.queued.as_ref().and_then(QueuedJob::submitted);
        let from_events = || {
            self.history.events.iter().find_map(|stored| match &stored.event {
                JobEvent::Started { submitted, .. } | JobEvent::Failed { submitted, .. } => submitted.clone(),
                _ => None,
            })
        };
        let from_letter = || self.dead.as_ref().and_then(|letter| letter.dead.submitted.clone());
        queued.or_else(from_events).or_else(from_letter)
    }

    /// The event that ended the job. A job whose id was used before is refused without effect on the first one.
    fn end(&self) -> Option<(&JobEvent, SystemTime)> {
        let ends = |event: &JobEvent| match event {
            JobEvent::Finished { .. } => true,
            JobEvent::Failed { failure, .. } => failure.code != FailureCode::DuplicateJob,
            _ => false,
        };
        self.history.events.iter().find(|stored| ends(&stored.event)).map(|stored| (&stored.event, stored.stored))
    }

    fn ended(&self) -> Option<SystemTime> {
        self.end().map(|(_, at)| at)
    }

    fn begun(&self) -> Option<SystemTime> {
        let started = |event: &JobEvent| matches!(event, JobEvent::Started { .. });
        self.history.events.iter().find(|stored| started(&stored.event)).map(|stored| stored.stored)
    }

    fn state(&self, is_running: bool) -> JobState {
        match (self.ended(), &self.queued) {
            (None, Some(_)) if is_running => JobState::Running,
            (None, Some(_)) => JobState::Queued,
            (Some(_), _) | (None, None) => JobState::Finished,
        }
    }

    fn failure(&self) -> Option<Failure> {
        match self.end() {
            Some((JobEvent::Failed { failure, .. }, _)) => Some(failure.clone()),
            Some(_) => None,
            None => self.dead.as_ref().map(|letter| letter.dead.failure.clone()),
        }
    }

    /// The job in place of this one, and the job in whose place this one was submitted.
    fn links(&self) -> (Option<JobId>, Option<JobId>) {
        let events = || self.history.events.iter().map(|stored| &stored.event);
        let retried_as = events().find_map(|event| match event {
            JobEvent::Retried { retried_as } => Some(retried_as.clone()),
            _ => None,
        });
        let retry_of = events().find_map(|event| match event {
            JobEvent::Resubmitted { retry_of } => Some(retry_of.clone()),
            _ => None,
        });
        (retried_as, retry_of)
    }

    fn facts(&self, submitted: &Option<SubmittedJob>, queued: Option<SystemTime>) -> Vec<(SystemTime, Fact)> {
        let queued = submitted.clone().zip(queued).map(|(submitted, at)| (at, Fact::Queued(submitted)));
        let cancelled = self.cancelled.map(|at| (at, Fact::CancelRequested));
        let events = self.history.events.iter().map(|stored| (stored.stored, Fact::Job(stored.event.clone())));
        queued.into_iter().chain(cancelled).chain(events).collect()
    }

    fn milestones(&self, queued: Option<SystemTime>) -> Milestones {
        let output = self.output.clone().unwrap_or_default();
        let usage = match self.end() {
            Some((JobEvent::Finished { usage, .. }, _)) => Some(*usage),
            _ => None,
        };
        let of_letter = self.dead.as_ref().and_then(|letter| letter.dead.prompt_tokens);
        Milestones {
            queued,
            begun: self.begun(),
            first_output: output.first,
            last_output: output.last.map(|(_, at)| at),
            ended: self.ended(),
            prompt_tokens: usage.map(|usage| usage.prompt_tokens).or(output.prompt_tokens).or(of_letter),
            answered: output.last.map(|(count, _)| count).or(usage.map(|usage| usage.completion_tokens)),
        }
    }
}
