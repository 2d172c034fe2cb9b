//! Appends to a job's output so that each chunk is stored once, even when an acknowledgement is lost. Step 5 of a job's
//! path.

use rbee_nats::{AppendError, Bus};
use rbee_schema::{Chunk, Failure, FailureCode, JobId, Tenant};
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::shared::Shared;
use crate::{
    blocked::{BlockedJob, BlockedJobs},
    decide::append::{Answer, Append, Confirmed, Explained, LONGEST_PAUSE, Next, Position},
};

/// Appends to the output of a job for as long as no other worker does. Each append names the sequence of the chunk before it,
/// which fences a second writer.
#[derive(Debug)]
pub(super) struct Writer {
    bus: Bus,
    blocked: BlockedJobs,
    tenant: Tenant,
    job: JobId,
    position: Position,
}

/// Reason why a chunk was not appended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Another worker has appended: this attempt may write no more.
    Fenced,
    /// The chunk cannot be stored, and the job ends with this failure.
    Failed(Failure),
}

impl Writer {
    pub(super) fn new(shared: &Shared, tenant: &Tenant, job: &JobId, last: u64) -> Self {
        let Shared { bus, blocked, .. } = shared.clone();
        Self { bus, blocked, tenant: tenant.clone(), job: job.clone(), position: Position::behind(last) }
    }

    /// Appends a chunk. While the bus is away the writer waits and retries; then it checks whether the chunk was stored and
    /// only its acknowledgement was lost.
    ///
    /// # Errors
    /// [`Refused::Fenced`] if another worker has appended. [`Refused::Failed`] if stored chunks were deleted, the stream stays
    /// full, or the chunk is too large.
    pub(super) async fn append(&mut self, chunk: &Chunk) -> Result<(), Refused> {
        let mut append = Append::begin();
        let mut blocked: Option<BlockedJob> = None;
        let begun = Instant::now();
        loop {
            let sent = self.bus.append(&self.tenant, &self.job, chunk, self.position.last()).await;
            match self.position.answered(&mut append, answer(&sent), begun.elapsed()) {
                Next::Done => return Ok(()),
                Next::Confirm => return self.confirm(chunk).await,
                Next::Explain => return Err(self.explain().await),
                Next::TooLarge => return Err(too_large(&sent)),
                Next::StayedFull => return Err(full(&sent)),
                Next::Retry(pause) => {
                    if let Err(error) = sent {
                        warn!(job = %self.job, %error, "failed to append output; the append is retried");
                    }
                    blocked.get_or_insert_with(|| self.blocked.enter());
                    sleep(pause).await;
                }
            }
        }
    }

    /// Checks whether the chunk behind the last one is `chunk`.
    async fn confirm(&mut self, chunk: &Chunk) -> Result<(), Refused> {
        loop {
            match self.bus.stored_output(&self.tenant, &self.job, self.position.last() + 1).await {
                Ok(chunks) => {
                    let behind: Vec<_> = chunks.iter().map(|found| (found.sequence, found.chunk == *chunk)).collect();
                    return match self.position.confirm(&behind) {
                        Confirmed::Stored => Ok(()),
                        Confirmed::Fenced => Err(Refused::Fenced),
                        Confirmed::Explain => Err(self.explain().await),
                    };
                }
                Err(error) => self.pause_reading(&error).await,
            }
        }
    }

    /// Reason why the last chunk of the output is another one than this writer's.
    async fn explain(&mut self) -> Refused {
        loop {
            match self.bus.last_chunk(&self.tenant, &self.job).await {
                Ok(found) => {
                    return match self.position.explain(found.map(|found| found.sequence)) {
                        Explained::Fenced => Refused::Fenced,
                        Explained::Deleted => Refused::Failed(Failure::new(
                            FailureCode::OutputGone,
                            "stored output of the job was deleted while it ran, so it cannot be continued: submit it again",
                        )),
                    };
                }
                Err(error) => self.pause_reading(&error).await,
            }
        }
    }

    async fn pause_reading(&self, error: &rbee_nats::BusError) {
        warn!(job = %self.job, %error, "failed to read stored output; the read is retried");
        sleep(LONGEST_PAUSE).await;
    }
}

fn answer(sent: &Result<u64, AppendError>) -> Answer {
    match sent {
        Ok(sequence) => Answer::Stored(*sequence),
        Err(AppendError::Stale) => Answer::Stale,
        Err(AppendError::TooLarge { .. }) => Answer::TooLarge,
        Err(AppendError::Full(_)) => Answer::Full,
        Err(AppendError::Bus(_)) => Answer::Lost,
    }
}

fn too_large(sent: &Result<u64, AppendError>) -> Refused {
    let (size, cause) = match sent {
        Err(AppendError::TooLarge { size, cause }) => (*size, cause.as_str()),
        Ok(_) | Err(_) => (0, ""),
    };
    let message = format!("a piece of the answer has {size} bytes and cannot be stored: {cause}");
    Refused::Failed(Failure::new(FailureCode::AnswerTooLarge, message))
}

fn full(sent: &Result<u64, AppendError>) -> Refused {
    let cause = match sent {
        Err(AppendError::Full(cause)) => cause.as_str(),
        Ok(_) | Err(_) => "",
    };
    let message = format!(
        "the output stream is full: {cause}. A running queen deletes old output; raise the limit `output_size`, or submit \
         the job later"
    );
    Refused::Failed(Failure::new(FailureCode::OutputFull, message))
}
