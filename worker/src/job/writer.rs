//! Appends to a job's output so that each chunk is stored once, even when an acknowledgement is lost. Step 5 of a job's
//! path.

use std::time::Duration;

use rbee_nats::{AppendError, Bus, StoredChunk};
use rbee_schema::{Chunk, JobId, Tenant};
use tokio::time::sleep;
use tracing::warn;

/// Pause before the first retry of an append. Short, because most interruptions of the bus are reconnects of a few
/// milliseconds and a client waits for the chunk.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Maximum pause between two retries. The pause doubles up to it, so that a server that is away for long is not loaded and
/// output continues within a second of its return.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Appends to the output of a job for as long as no other worker does. Each append names the sequence of the chunk before it,
/// which fences a second writer.
#[derive(Debug)]
pub(super) struct Writer {
    bus: Bus,
    tenant: Tenant,
    job: JobId,
    /// Sequence of the last chunk.
    last: u64,
}

/// Another worker has appended: this attempt may write no more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fenced;

impl Writer {
    pub(super) fn new(bus: &Bus, tenant: &Tenant, job: &JobId, last: u64) -> Self {
        Self { bus: bus.clone(), tenant: tenant.clone(), job: job.clone(), last }
    }

    /// Appends a chunk. While the bus is away the writer waits and retries; then it checks whether the chunk was stored and
    /// only its acknowledgement was lost.
    ///
    /// # Errors
    /// [`Fenced`] if another worker has appended.
    pub(super) async fn append(&mut self, chunk: &Chunk) -> Result<(), Fenced> {
        let mut may_be_stored = false;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.bus.append(&self.tenant, &self.job, chunk, self.last).await {
                Ok(sequence) => {
                    self.last = sequence;
                    return Ok(());
                }
                Err(AppendError::Stale) if may_be_stored => return self.confirm(chunk).await,
                Err(AppendError::Stale) => return Err(Fenced),
                Err(AppendError::Bus(error)) => {
                    warn!(job = %self.job, %error, "failed to append output; the append is retried");
                    may_be_stored = true;
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Checks whether the chunk behind the last one is `chunk`.
    async fn confirm(&mut self, chunk: &Chunk) -> Result<(), Fenced> {
        loop {
            match self.bus.stored_output(&self.tenant, &self.job, self.last + 1).await {
                Ok(chunks) => {
                    return match chunks.as_slice() {
                        [StoredChunk { sequence, chunk: stored }] if stored == chunk => {
                            self.last = *sequence;
                            Ok(())
                        }
                        _ => Err(Fenced),
                    };
                }
                Err(error) => {
                    warn!(job = %self.job, %error, "failed to read stored output; the read is retried");
                    sleep(LONGEST_PAUSE).await;
                }
            }
        }
    }
}
