//! Appends to a job's output so that each chunk is stored once, even when an acknowledgement is lost. Step 5 of a job's
//! path.

use std::time::Duration;

use rbee_nats::{AppendError, Bus, StoredChunk};
use rbee_schema::{Chunk, Failure, FailureCode, JobId, Tenant};
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::shared::Shared;
use crate::blocked::{BlockedJob, BlockedJobs};

/// Pause before the first retry of an append. Short, because most interruptions of the bus are reconnects of a few
/// milliseconds and a client waits for the chunk.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Maximum pause between two retries. The pause doubles up to it, so that a server that is away for long is not loaded and
/// output continues within a second of its return.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Time for which a running job waits for space in a full output stream. The leading queen deletes old output every few
/// seconds.
const FULL_PATIENCE: Duration = Duration::from_secs(30);

/// Appends to the output of a job for as long as no other worker does. Each append names the sequence of the chunk before it,
/// which fences a second writer.
#[derive(Debug)]
pub(super) struct Writer {
    bus: Bus,
    blocked: BlockedJobs,
    tenant: Tenant,
    job: JobId,
    /// Sequence of the last chunk.
    last: u64,
    /// Time for which an append waits for space in a full stream. Zero before the first chunk, and after it has passed once.
    full_patience: Duration,
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
        let full_patience = if last > 0 { FULL_PATIENCE } else { Duration::ZERO };
        Self { bus, blocked, tenant: tenant.clone(), job: job.clone(), last, full_patience }
    }

    /// Appends a chunk. While the bus is away the writer waits and retries; then it checks whether the chunk was stored and
    /// only its acknowledgement was lost.
    ///
    /// # Errors
    /// [`Refused::Fenced`] if another worker has appended. [`Refused::Failed`] if stored chunks were deleted, the stream stays
    /// full, or the chunk is too large.
    pub(super) async fn append(&mut self, chunk: &Chunk) -> Result<(), Refused> {
        let mut may_be_stored = false;
        let mut blocked: Option<BlockedJob> = None;
        let mut pause = FIRST_PAUSE;
        let begun = Instant::now();
        loop {
            match self.bus.append(&self.tenant, &self.job, chunk, self.last).await {
                Ok(sequence) => {
                    self.last = sequence;
                    self.full_patience = FULL_PATIENCE;
                    return Ok(());
                }
                Err(AppendError::Stale) if may_be_stored => return self.confirm(chunk).await,
                Err(AppendError::Stale) => return Err(self.stale().await),
                Err(AppendError::TooLarge { size, cause }) => return Err(too_large(size, &cause)),
                Err(AppendError::Full(cause)) => {
                    if begun.elapsed() >= self.full_patience {
                        self.full_patience = Duration::ZERO;
                        return Err(full(&cause));
                    }
                    warn!(job = %self.job, cause, "the output stream is full; the append is retried");
                }
                Err(AppendError::Bus(error)) => {
                    warn!(job = %self.job, %error, "failed to append output; the append is retried");
                    may_be_stored = true;
                }
            }
            blocked.get_or_insert_with(|| self.blocked.enter());
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Checks whether the chunk behind the last one is `chunk`.
    async fn confirm(&mut self, chunk: &Chunk) -> Result<(), Refused> {
        loop {
            match self.bus.stored_output(&self.tenant, &self.job, self.last + 1).await {
                Ok(chunks) => {
                    return match chunks.as_slice() {
                        [StoredChunk { sequence, chunk: stored }] if stored == chunk => {
                            self.last = *sequence;
                            Ok(())
                        }
                        [] => Err(self.stale().await),
                        _ => Err(Refused::Fenced),
                    };
                }
                Err(error) => self.pause_reading(&error).await,
            }
        }
    }

    /// Reason why the last chunk of the output is another one than this writer's. If no later one is stored, the writer's own
    /// was deleted; the failure that follows is appended to what is left.
    async fn stale(&mut self) -> Refused {
        loop {
            match self.bus.last_chunk(&self.tenant, &self.job).await {
                Ok(Some(found)) if found.sequence >= self.last => return Refused::Fenced,
                Ok(found) => {
                    self.last = found.map_or(0, |found| found.sequence);
                    return Refused::Failed(Failure::new(
                        FailureCode::OutputGone,
                        "stored output of the job was deleted while it ran, so it cannot be continued: submit it again",
                    ));
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

fn too_large(size: usize, cause: &str) -> Refused {
    let message = format!("a piece of the answer has {size} bytes and cannot be stored: {cause}");
    Refused::Failed(Failure::new(FailureCode::AnswerTooLarge, message))
}

fn full(cause: &str) -> Refused {
    let message = format!(
        "the output stream is full: {cause}. A running queen deletes old output; raise the limit `output_size`, or submit \
         the job later"
    );
    Refused::Failed(Failure::new(FailureCode::OutputFull, message))
}
