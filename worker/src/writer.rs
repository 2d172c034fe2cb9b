//! Appending to a job's output so that each chunk is stored once, also when an acknowledgement is lost. Step 5 of a
//! job's path.

use std::time::Duration;

use rbee_nats::{AppendError, Bus, StoredChunk};
use rbee_schema::{Chunk, JobId, Tenant};
use tokio::time::sleep;
use tracing::warn;

/// The pauses before a chunk is appended again: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The one who appends to the output of a job, as long as nobody else does.
#[derive(Debug)]
pub(crate) struct Writer {
    bus: Bus,
    tenant: Tenant,
    job: JobId,
    /// The sequence of the last chunk.
    last: u64,
}

/// Somebody else has appended: the job is no longer ours.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fenced;

impl Writer {
    pub(crate) fn new(bus: &Bus, tenant: &Tenant, job: &JobId, last: u64) -> Self {
        Self { bus: bus.clone(), tenant: tenant.clone(), job: job.clone(), last }
    }

    /// Appends a chunk. While the bus is away it waits and tries again; then it looks whether the chunk was stored and
    /// only its acknowledgement was lost.
    pub(crate) async fn append(&mut self, chunk: &Chunk) -> Result<(), Fenced> {
        let mut may_be_stored = false;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.bus.append(&self.tenant, &self.job, chunk, self.last).await {
                Ok(sequence) => {
                    self.last = sequence;
                    return Ok(());
                }
                Err(AppendError::Stale) if may_be_stored => return self.look_for(chunk).await,
                Err(AppendError::Stale) => return Err(Fenced),
                Err(AppendError::Bus(error)) => {
                    warn!(job = %self.job, %error, "output waits for the bus");
                    may_be_stored = true;
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn look_for(&mut self, chunk: &Chunk) -> Result<(), Fenced> {
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
                    warn!(job = %self.job, %error, "output waits for the bus");
                    sleep(LONGEST_PAUSE).await;
                }
            }
        }
    }
}
