//! Lists of jobs, read in batches: open, ended and dead ones. The cost of a batch does not depend on the number of jobs.

use std::time::SystemTime;

use rbee_schema::{JobEvent, JobId, ModelName, Tenant};

use super::{DeadLetter, QueuedJob};
use crate::{
    Bus, BusError, Subject,
    batch::{Position, StoredMessage},
};

/// Jobs of a list that are wanted. `None` stands for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Model of the jobs.
    pub model: Option<ModelName>,
    /// Tenant that owns the jobs.
    pub tenant: Option<Tenant>,
}

/// Part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct JobBatch<T> {
    /// Jobs of this part, oldest first.
    pub jobs: Vec<T>,
    /// Sequence after which the next part starts. `None` at the end of the list.
    pub next: Option<u64>,
}

/// Job that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedJob {
    /// Tenant that owns the job.
    pub tenant: Tenant,
    /// Id of the job.
    pub job: JobId,
    /// Event that ended it: `finished` or `failed`.
    pub event: JobEvent,
    /// Time of the event.
    pub stored: SystemTime,
}

impl Bus {
    /// At most `limit` jobs that wait or run, after the sequence `after`.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn open_jobs(
        &self,
        filter: &JobFilter,
        after: u64,
        limit: usize,
    ) -> Result<JobBatch<QueuedJob>, BusError> {
        let filter = self.namespace().jobs_matching(filter.model.as_ref(), filter.tenant.as_ref());
        let batch = self.read_batch("jobs", &filter, Position::Sequence(after + 1), limit).await?;
        Ok(JobBatch { next: next(&batch), jobs: batch.into_iter().map(|job| self.queued_job(job)).collect() })
    }

    /// Ends of jobs of a tenant among at most `limit` events, after the sequence `after`, or without one from `since` on.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn ended_jobs(
        &self,
        tenant: Option<&Tenant>,
        after: Option<u64>,
        since: SystemTime,
        limit: usize,
    ) -> Result<JobBatch<EndedJob>, BusError> {
        let from = after.map_or(Position::Time(since), |after| Position::Sequence(after + 1));
        let batch = self.read_batch("events", &self.namespace().job_events_of(tenant), from, limit).await?;
        Ok(JobBatch { next: next(&batch), jobs: batch.iter().filter_map(|event| self.ended_job(event)).collect() })
    }

    fn ended_job(&self, message: &StoredMessage) -> Option<EndedJob> {
        let Subject::JobEvent(tenant, job, _) = self.parse(&message.subject)? else { return None };
        let event = serde_json::from_slice(&message.payload).ok()?;
        let is_end = matches!(event, JobEvent::Finished { .. } | JobEvent::Failed { .. });
        is_end.then_some(EndedJob { tenant, job, event, stored: message.stored })
    }

    /// At most `limit` dead letters, after the sequence `after`.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn dead_jobs(
        &self,
        filter: &JobFilter,
        after: u64,
        limit: usize,
    ) -> Result<JobBatch<DeadLetter>, BusError> {
        let filter = self.namespace().dead_matching(filter.model.as_ref(), filter.tenant.as_ref());
        let batch = self.read_batch("dead", &filter, Position::Sequence(after + 1), limit).await?;
        let dead = |message: &StoredMessage| {
            self.read_letter(&message.subject, message.sequence, &message.payload, message.stored)
        };
        Ok(JobBatch { next: next(&batch), jobs: batch.iter().filter_map(dead).collect() })
    }
}

/// Sequence after which the next batch starts, if there is one.
fn next(batch: &[StoredMessage]) -> Option<u64> {
    batch.last().filter(|last| last.pending > 0).map(|last| last.sequence)
}
