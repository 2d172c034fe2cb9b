//! Inspection of the queue: depths, waiting jobs, and notices of stored jobs.

use std::collections::BTreeMap;

use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use futures::StreamExt as _;
use rbee_schema::{JobId, ModelName, Tenant};

use super::id::{MESSAGE_ID, job_id};
use crate::{
    Bus, BusError, Subject,
    bus::{header, number},
    server_error,
    trace::{TraceContext, trace},
};

/// Job that waits or runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedJob {
    /// Sequence in the stream `jobs`.
    pub sequence: u64,
    /// Tenant that owns the job.
    pub tenant: Tenant,
    /// Id of the job.
    pub job: JobId,
    /// Trace of the job.
    pub trace: TraceContext,
}

impl Bus {
    /// Number of waiting and running jobs by model.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn queue_depths(&self) -> Result<Vec<(ModelName, u64)>, BusError> {
        let failed = |cause: String| BusError::new("read the depths of the queue", cause);
        let stream = self.jobs().await?;
        let mut subjects =
            stream.info_with_subjects(self.namespace().all_jobs()).await.map_err(|error| failed(error.to_string()))?;
        let mut depths = BTreeMap::new();
        while let Some(subject) = subjects.next().await {
            let (subject, count) = subject.map_err(|error| failed(error.to_string()))?;
            if let Some(Subject::Job(model, ..)) = self.parse(&subject) {
                *depths.entry(model).or_insert(0) += count as u64;
            }
        }
        Ok(depths.into_iter().collect())
    }

    /// Waiting and running jobs of `model`, oldest first.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn queued_jobs(&self, model: &ModelName) -> Result<Vec<QueuedJob>, BusError> {
        let stream = self.jobs().await?;
        let mut jobs = Vec::new();
        let mut from = 1;
        loop {
            let next =
                stream.raw_message_builder().sequence(from).next_by_subject(self.namespace().jobs_of_model(model));
            let message = match next.send().await {
                Ok(message) => message,
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(jobs),
                Err(error) => return Err(BusError::new("read the queue", error)),
            };
            from = message.sequence + 1;
            if let Some(Subject::Job(_, _, tenant)) = self.parse(&message.subject) {
                let sequence = message.sequence;
                let job = job_id(header(Some(&message.headers), MESSAGE_ID), sequence);
                let trace = trace(Some(&message.headers)).unwrap_or_else(|| self.trace_of(&tenant, &job));
                jobs.push(QueuedJob { sequence, tenant, job, trace });
            }
        }
    }

    /// Removes a job that nobody runs from the queue. Removing a job that does not exist succeeds.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn drop_job(&self, sequence: u64) -> Result<(), BusError> {
        let stream = self.jobs().await?;
        match stream.delete_message(sequence).await {
            Ok(_) => Ok(()),
            Err(error) if server_error::is_no_message(&error.to_string()) => Ok(()),
            Err(error) => Err(BusError::new(format!("remove job {sequence} from the queue"), error)),
        }
    }

    async fn jobs(&self) -> Result<Stream<()>, BusError> {
        let stream = self.jetstream().get_stream_no_info(self.namespace().resource("jobs")).await;
        stream.map_err(|error| BusError::new("open the queue", error))
    }

    /// Parses the notice of a stored job into its model, sequence, tenant and id. `None` for any other message.
    pub fn queued_notice(&self, message: &async_nats::Message) -> Option<(ModelName, u64, Tenant, JobId)> {
        let Some(Subject::Queued(model, _, tenant)) = self.parse(&message.subject) else { return None };
        let sequence = number(message, "Nats-Sequence")?;
        Some((model, sequence, tenant, job_id(header(message.headers.as_ref(), MESSAGE_ID), sequence)))
    }

    /// Trace of a stored job, from its notice. `None` for any other message.
    pub fn queued_trace(&self, message: &async_nats::Message) -> Option<TraceContext> {
        let (_, _, tenant, job) = self.queued_notice(message)?;
        Some(trace(message.headers.as_ref()).unwrap_or_else(|| self.trace_of(&tenant, &job)))
    }
}
