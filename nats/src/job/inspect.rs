//! Inspection of the queue: depths, waiting jobs, and notices of stored jobs.

use std::{collections::BTreeMap, time::SystemTime};

use async_nats::{HeaderMap, jetstream::stream::Stream};
use futures::StreamExt as _;
use rbee_schema::{Deadlines, Failure, JobClass, JobFlow, JobId, ModelName, SubmittedJob, Tenant};

use super::{
    StoredBody,
    deadline::deadlines,
    id::{JobNames, MESSAGE_ID, Misnamed},
};
use crate::{
    Bus, BusError, Subject,
    batch::{MANY, Position, StoredMessage},
    bus::{header, number},
    time::rfc3339,
    trace::{TraceContext, trace},
};

/// Job that waits or runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedJob {
    /// Sequence in the stream `jobs`.
    pub sequence: u64,
    /// Model that the job is for. `None` if its subject has no valid one.
    pub model: Option<ModelName>,
    /// Class of the job. `None` if its subject has no valid one.
    pub class: Option<JobClass>,
    /// Tenant that owns the job.
    pub tenant: Tenant,
    /// Id of the job.
    pub job: JobId,
    /// Set if the message is no valid job.
    pub misnamed: Option<Misnamed>,
    /// Time at which the server stored the job.
    pub stored: SystemTime,
    /// Size of its body in bytes.
    pub bytes: u64,
    /// Trace of the job.
    pub trace: TraceContext,
    /// Deadlines that the job states, or the failure that refuses it.
    pub deadlines: Result<Deadlines, Failure>,
    /// Body of the job, if it is stored apart from it.
    pub stored_body: Option<StoredBody>,
}

impl QueuedJob {
    /// The job as its events and dead letter describe it. `None` for a message that is no valid job.
    pub fn submitted(&self) -> Option<SubmittedJob> {
        let (model, class) = (self.model.clone()?, self.class?);
        Some(SubmittedJob { model, class, bytes: self.bytes, queued: rfc3339(self.stored) })
    }

    /// Flow of the job. `None` for a message that is no valid job.
    pub fn flow(&self) -> Option<JobFlow> {
        Some(JobFlow { class: self.class?, tenant: self.tenant.clone() })
    }
}

/// Content of the queue, by subject.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueCount {
    /// Number of waiting and running jobs by model.
    pub depths: Vec<(ModelName, u64)>,
    /// Number of waiting and running jobs by model and flow.
    pub flows: Vec<(ModelName, JobFlow, u64)>,
    /// Number of waiting and running jobs by tenant.
    pub tenants: BTreeMap<Tenant, u64>,
    /// Subjects of messages that are no valid jobs. No worker receives them.
    pub misnamed: Vec<String>,
}

impl Bus {
    /// Number of waiting and running jobs by model.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn queue_depths(&self) -> Result<Vec<(ModelName, u64)>, BusError> {
        self.count_queue().await.map(|count| count.depths)
    }

    /// Sequence of the last job in the stream `jobs`, whether it is still there or not.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn last_job(&self) -> Result<u64, BusError> {
        let stream = self.jetstream().get_stream(self.namespace().resource("jobs")).await;
        let stream = stream.map_err(|error| BusError::new("read the last sequence of the queue", error))?;
        Ok(stream.cached_info().state.last_sequence)
    }

    /// Counts the messages in the queue.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn count_queue(&self) -> Result<QueueCount, BusError> {
        let (mut depths, mut tenants) = (BTreeMap::new(), BTreeMap::new());
        let (mut flows, mut misnamed) = (Vec::new(), Vec::new());
        for (subject, count) in self.depths(self.namespace().all_jobs()).await? {
            match self.parse(&subject) {
                Some(Subject::Job(model, class, tenant)) => {
                    *depths.entry(model.clone()).or_insert(0) += count;
                    *tenants.entry(tenant.clone()).or_insert(0) += count;
                    flows.push((model, JobFlow { class, tenant }, count));
                }
                _ => misnamed.push(subject),
            }
        }
        Ok(QueueCount { depths: depths.into_iter().collect(), flows, tenants, misnamed })
    }

    /// Flows of `model` that have waiting or running jobs, with the number of these jobs.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn job_flows(&self, model: &ModelName) -> Result<Vec<(JobFlow, u64)>, BusError> {
        let depths = self.depths(self.namespace().jobs_of_model(model)).await?;
        let flow = |(subject, count): (String, u64)| match self.parse(&subject) {
            Some(Subject::Job(_, class, tenant)) => Some((JobFlow { class, tenant }, count)),
            _ => None,
        };
        Ok(depths.into_iter().filter_map(flow).collect())
    }

    /// Number of messages in the queue by subject, of the subjects that match `filter`.
    async fn depths(&self, filter: String) -> Result<Vec<(String, u64)>, BusError> {
        let failed = |cause: String| BusError::new("read the depths of the queue", cause);
        let stream = self.jobs().await?;
        let mut subjects = stream.info_with_subjects(filter).await.map_err(|error| failed(error.to_string()))?;
        let mut depths = Vec::new();
        while let Some(subject) = subjects.next().await {
            let (subject, count) = subject.map_err(|error| failed(error.to_string()))?;
            depths.push((subject, count as u64));
        }
        Ok(depths)
    }

    /// Waiting and running jobs whose subjects match `filter`, oldest first: some of those from sequence `from` on. None means
    /// that there are no more.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn queued_jobs(&self, filter: &str, from: u64) -> Result<Vec<QueuedJob>, BusError> {
        let batch = self.read_batch("jobs", filter, Position::Sequence(from), MANY).await?;
        Ok(batch.into_iter().map(|message| self.queued_job(message)).collect())
    }

    /// The job at a sequence of the stream `jobs`, if it waits or runs.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn queued_job_at(&self, sequence: u64) -> Result<Option<QueuedJob>, BusError> {
        let from = Position::Sequence(sequence);
        let batch = self.read_batch("jobs", &self.namespace().all_jobs(), from, 1).await?;
        Ok(batch.into_iter().next().filter(|found| found.sequence == sequence).map(|found| self.queued_job(found)))
    }

    pub(super) fn queued_job(&self, message: StoredMessage) -> QueuedJob {
        let StoredMessage { subject, sequence, stored, headers, payload, .. } = message;
        let bytes = payload.len() as u64;
        let JobNames { model, class, tenant, job, misnamed } = self.names(&subject, Some(&headers), sequence);
        let trace = trace(Some(&headers)).unwrap_or_else(|| self.trace_of(&tenant, &job));
        let deadlines = deadlines(Some(&headers));
        let stored_body = StoredBody::read(Some(&headers), &tenant, &payload).ok().flatten();
        QueuedJob { sequence, model, class, tenant, job, misnamed, stored, bytes, trace, deadlines, stored_body }
    }

    pub(super) fn names(&self, subject: &str, headers: Option<&HeaderMap>, sequence: u64) -> JobNames {
        JobNames::read(self.namespace(), subject, header(headers, MESSAGE_ID), sequence)
    }

    /// Removes a job that nobody runs from the queue. Removing a job that does not exist succeeds.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn drop_job(&self, sequence: u64) -> Result<(), BusError> {
        self.delete_message("jobs", sequence).await
    }

    pub(crate) async fn jobs(&self) -> Result<Stream<()>, BusError> {
        let stream = self.jetstream().get_stream_no_info(self.namespace().resource("jobs")).await;
        stream.map_err(|error| BusError::new("open the queue", error))
    }

    /// Parses the notice of a stored job into its model, sequence, tenant and id. `None` for any other message.
    pub fn queued_notice(&self, message: &async_nats::Message) -> Option<(ModelName, u64, Tenant, JobId)> {
        let Some(Subject::Queued(model, _, _)) = self.parse(&message.subject) else { return None };
        let sequence = number(message, "Nats-Sequence")?;
        let subject = header(message.headers.as_ref(), "Nats-Subject")?;
        let JobNames { tenant, job, .. } = self.names(subject, message.headers.as_ref(), sequence);
        Some((model, sequence, tenant, job))
    }

    /// Subject of a stored message that is no valid job, from its notice. `None` for a job and for any other message.
    pub fn misnamed_notice(&self, message: &async_nats::Message) -> Option<String> {
        let subject = header(message.headers.as_ref(), "Nats-Subject")?;
        (!matches!(self.parse(subject), Some(Subject::Job(..)))).then(|| subject.to_owned())
    }

    /// Trace of a stored job, from its notice. `None` for any other message.
    pub fn queued_trace(&self, message: &async_nats::Message) -> Option<TraceContext> {
        let (_, _, tenant, job) = self.queued_notice(message)?;
        Some(trace(message.headers.as_ref()).unwrap_or_else(|| self.trace_of(&tenant, &job)))
    }
}
