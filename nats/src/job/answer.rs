//! Answers of jobs that no worker runs: the job is answered with a failure and removed from the queue.

use rbee_schema::{Chunk, Event, Failure, JobEvent, JobId, SubmittedJob, Tenant};
use tracing::warn;

use super::{QueuedJob, submit::duplicate_job};
use crate::{AppendError, Bus, BusError, LastChunk};

/// Treatment of a job with output that is not complete: a worker has begun it, and may run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// The job is left alone.
    Leave,
    /// The job is answered. For jobs of which it is known that no worker runs them.
    Answer,
}

/// Outcome of answering a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// The job was answered and has left the queue.
    Yes,
    /// A worker has begun the job. Nothing was changed.
    Begun,
}

/// Content of the event of a job that failed.
struct Ended<'a> {
    failure: &'a Failure,
    /// The job as it was queued. `None` for one whose id is that of another job.
    submitted: Option<SubmittedJob>,
}

impl Bus {
    /// Answers a queued job with a failure and removes it from the queue. A worker that begins the job at the same time wins or
    /// loses as a whole: each append names the chunk before it.
    ///
    /// # Errors
    /// The server does not answer. The job may be answered and still be queued; whoever receives it next removes it.
    pub async fn answer(&self, queued: &QueuedJob, failure: &Failure, begun: Begun) -> Result<Answered, BusError> {
        let QueuedJob { sequence, tenant, job, misnamed, stored_body, .. } = queued;
        let failure = misnamed.as_ref().map_or(failure, |misnamed| &misnamed.failure);
        let chunk = Chunk::Error { error: failure.clone() };
        let is_answered = match self.append(tenant, job, &chunk, 0).await {
            Ok(_) => true,
            Err(AppendError::Bus(error)) => return Err(error),
            Err(AppendError::Full(_) | AppendError::TooLarge { .. }) => {
                self.publish_unstored(tenant, job, &chunk).await?;
                true
            }
            Err(AppendError::Stale) => match self.last_chunk(tenant, job).await? {
                Some(last) if last.stored < queued.stored => {
                    self.report_spent(tenant, job, *sequence).await?;
                    false
                }
                Some(LastChunk { is_last: true, .. }) => false,
                Some(LastChunk { sequence, .. }) if begun == Begun::Answer => {
                    match self.append(tenant, job, &chunk, sequence).await {
                        Ok(_) => true,
                        Err(AppendError::Stale) => return Ok(Answered::Begun),
                        Err(AppendError::Bus(error)) => return Err(error),
                        Err(AppendError::Full(_) | AppendError::TooLarge { .. }) => {
                            self.publish_unstored(tenant, job, &chunk).await?;
                            true
                        }
                    }
                }
                Some(_) | None => return Ok(Answered::Begun),
            },
        };
        let tell = async {
            if !is_answered {
                return;
            }
            if let Some(misnamed) = misnamed
                && let Err(error) = self.report_misnamed(misnamed).await
            {
                warn!(%job, %error, "the client of a misnamed job could not be told");
            }
            let ended = Ended { failure, submitted: queued.submitted() };
            if let Err(error) = self.store_failed(tenant, job, *sequence, ended).await {
                warn!(%job, %error, "the event of a failed job could not be stored");
            }
        };
        let ((), dropped) = tokio::join!(tell, self.drop_job(*sequence));
        dropped?;
        // The body of a job that a worker has answered is needed if the job was given up; otherwise it is swept.
        if let Some(body) = stored_body.as_ref().filter(|_| is_answered) {
            self.delete_body(body).await;
        }
        Ok(Answered::Yes)
    }

    /// Answers a job whose id was used before, by a job whose output is stored. That output stays as it is: the failure is
    /// published to subscribers and not stored.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn report_spent(&self, tenant: &Tenant, job: &JobId, sequence: u64) -> Result<(), BusError> {
        let failure = duplicate_job(tenant, job);
        self.publish_unstored(tenant, job, &Chunk::Error { error: failure.clone() }).await?;
        self.store_failed(tenant, job, sequence, Ended { failure: &failure, submitted: None }).await
    }

    /// Stores the event that a job failed; once, however often the job is refused.
    async fn store_failed(
        &self,
        tenant: &Tenant,
        job: &JobId,
        sequence: u64,
        Ended { failure, submitted }: Ended<'_>,
    ) -> Result<(), BusError> {
        let failed = JobEvent::Failed { failure: failure.clone(), usage: None, submitted };
        let event = Event::Job(tenant.clone(), job.clone(), failed);
        self.store_event(&event, &format!("failed-{tenant}-{job}-{sequence}")).await
    }
}
