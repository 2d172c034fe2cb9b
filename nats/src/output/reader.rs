//! Reader of one job's output, live.

use std::{collections::VecDeque, time::Duration};

use async_nats::{Subscriber, header};
use futures::StreamExt as _;
use rbee_schema::{Chunk, Failure, FailureCode, JobId, Tenant};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tracing::warn;

use super::{
    continuity::{OutputGone, next_index},
    stored::{StoredChunk, read},
};
use crate::{Bus, BusError, Subject, bus::number};

impl Bus {
    /// Opens a reader of a job's output, from the first chunk. Open it before submitting the job, and no chunk is missed.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn read_output(&self, tenant: &Tenant, job: &JobId) -> Result<OutputReader, BusError> {
        let subject = self.subject(&Subject::Published(tenant.clone(), job.clone()));
        let live = self.subscribe(subject).await?;
        let mut reader = OutputReader {
            bus: self.clone(),
            tenant: tenant.clone(),
            job: job.clone(),
            live,
            online: self.online(),
            last: 0,
            next_index: 0,
            ready: VecDeque::new(),
            ended: false,
        };
        reader.catch_up().await?;
        Ok(reader)
    }
}

/// Failure to read the next chunk.
#[derive(Debug, thiserror::Error)]
pub enum OutputReadError {
    /// No chunk came in time. The job may still be running.
    #[error("no output for {0:?}")]
    TimedOut(Duration),
    /// Chunks are missing: the reader came too late for them.
    #[error(transparent)]
    Gone(#[from] OutputGone),
    /// The server does not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl From<OutputReadError> for Failure {
    fn from(error: OutputReadError) -> Self {
        let code = match error {
            OutputReadError::TimedOut(_) | OutputReadError::Bus(_) => FailureCode::TimedOut,
            OutputReadError::Gone(_) => FailureCode::OutputGone,
        };
        Self::new(code, error.to_string())
    }
}

/// Reader of one job's output: returns every chunk once and in order, also after the connection was lost.
#[derive(Debug)]
pub struct OutputReader {
    bus: Bus,
    tenant: Tenant,
    job: JobId,
    live: Subscriber,
    online: watch::Receiver<bool>,
    last: u64,
    /// Index of the next token or input by the chunks that were returned.
    next_index: u32,
    ready: VecDeque<StoredChunk>,
    ended: bool,
}

impl OutputReader {
    /// Next chunk. `None` after the last one.
    ///
    /// # Errors
    /// No chunk comes within `patience`, chunks are no longer stored, or the server does not answer.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<StoredChunk>, OutputReadError> {
        let deadline = Instant::now() + patience;
        loop {
            if self.ended {
                return Ok(None);
            }
            if let Some(stored) = self.ready.pop_front() {
                self.next_index = next_index(self.next_index, &stored.chunk)?;
                self.ended = stored.chunk.is_last();
                return Ok(Some(stored));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(OutputReadError::TimedOut(patience));
            }
            tokio::select! {
                message = self.live.next() => match message {
                    Some(message) => self.handle_message(&message).await,
                    None => return Err(BusError::new("read the output of a job", "the connection is closed").into()),
                },
                // Chunks that were published while the connection was lost were missed.
                Ok(()) = self.online.changed() => self.try_catch_up().await,
                () = sleep(left.min(self.bus.settings().output_recheck)) => self.try_catch_up().await,
            }
        }
    }

    async fn handle_message(&mut self, message: &async_nats::Message) {
        let Some(sequence) = number(message, header::NATS_SEQUENCE.as_ref()) else {
            return self.handle_unstored(message);
        };
        if sequence <= self.last {
            return;
        }
        // The server names the previous chunk of the subject. If it is not our last one, a chunk was lost.
        if number(message, header::NATS_LAST_SEQUENCE.as_ref()).unwrap_or(0) > self.last {
            return self.try_catch_up().await;
        }
        self.last = sequence;
        self.ready.extend(read(sequence, &message.payload));
    }

    /// A chunk that was published without being stored is a failure that cannot be stored: see [`Bus::publish_unstored`].
    fn handle_unstored(&mut self, message: &async_nats::Message) {
        let unstored = read(self.last, &message.payload);
        self.ready.extend(unstored.filter(|unstored| matches!(unstored.chunk, Chunk::Error { .. })));
    }

    /// Catches up if the server is reachable. If not, the caller's timeout decides.
    async fn try_catch_up(&mut self) {
        let is_online = *self.online.borrow_and_update();
        if is_online && let Err(error) = self.catch_up().await {
            warn!(job = %self.job, %error, "missed chunks cannot be read yet");
        }
    }

    async fn catch_up(&mut self) -> Result<(), BusError> {
        let missed = self.bus.stored_output(&self.tenant, &self.job, self.last + 1).await?;
        if let Some(stored) = missed.last() {
            self.last = stored.sequence;
        }
        self.ready.extend(missed);
        Ok(())
    }
}
