//! The end of a job whose deadline has come after a worker has begun it, and while no worker runs it.

use rbee_schema::{Chunk, Event, Failure, FinishReason, JobEvent, Usage};
use tracing::warn;

use super::{Answered, Begun, QueuedJob};
use crate::{AppendError, Bus, BusError, LastChunk, StoredChunk, Subject, batch::Position, partial_end};

impl Bus {
    /// Ends a job that a worker has begun, and that no worker runs: the answer ends with what there is of it. Without any, the
    /// failure is its answer.
    ///
    /// # Errors
    /// The server does not answer. The job may be answered and still be queued; whoever receives it next removes it.
    pub async fn cut(&self, queued: &QueuedJob, failure: &Failure) -> Result<Answered, BusError> {
        let QueuedJob { sequence, tenant, job, stored, .. } = queued;
        let last = match self.last_chunk(tenant, job).await? {
            // Its worker has answered it just now, and may have ended before the acknowledgement.
            Some(last) if last.is_last && last.stored >= *stored => {
                return self.drop_job(*sequence).await.map(|()| Answered::Begun);
            }
            Some(last) if last.stored >= *stored => last,
            _ => return self.answer(queued, failure, Begun::Answer).await,
        };
        let output = self.stored_output(tenant, job, 0).await?;
        let end = partial_end(output.iter().map(|StoredChunk { chunk, .. }| chunk));
        let Some((index, usage)) = end else { return self.answer(queued, failure, Begun::Answer).await };
        let finish_reason = FinishReason::Deadline;
        let done = Chunk::Done { index, finish_reason, usage };
        match self.append(tenant, job, &done, last.sequence).await {
            Ok(_) => {}
            Err(AppendError::Stale) => return Ok(Answered::Begun),
            Err(AppendError::Bus(error)) => return Err(error),
            Err(AppendError::Full(_) | AppendError::TooLarge { .. }) => {
                self.publish_unstored(tenant, job, &done).await?;
            }
        }
        let finished = async {
            if let Err(error) = self.store_finished(queued, last, usage).await {
                warn!(%job, %error, "the event of a job whose deadline has come could not be stored");
            }
        };
        let ((), dropped) = tokio::join!(finished, self.drop_job(*sequence));
        dropped.map(|()| Answered::Yes)
    }

    /// Stores the event that a job was answered in part, once. Its duration ends with the last chunk of a worker.
    async fn store_finished(&self, queued: &QueuedJob, last: LastChunk, usage: Usage) -> Result<(), BusError> {
        let QueuedJob { sequence, tenant, job, .. } = queued;
        let subject = self.subject(&Subject::Output(tenant.clone(), job.clone()));
        let first = self.read_batch("output", &subject, Position::Sequence(1), 1).await?;
        let took = first.first().and_then(|first| last.stored.duration_since(first.stored).ok()).unwrap_or_default();
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let finished = JobEvent::Finished { finish_reason: FinishReason::Deadline, usage, duration_ms };
        let event = Event::Job(tenant.clone(), job.clone(), finished);
        self.store_event(&event, &format!("finished-{tenant}-{job}-{sequence}")).await
    }
}
