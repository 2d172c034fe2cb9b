//! Output of jobs: chunks appended by compare-and-set, and read without gaps or duplicates. Steps 5 and 6 of a job's path.
//!
//! Each append names the stream sequence of the previous chunk. A worker that was believed dead and appends again names a
//! sequence that is no longer the last, and is refused. This is the fence; acknowledgements of jobs do not fence.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use async_nats::{
    Subscriber, header,
    jetstream::{
        consumer::{AckPolicy, DeliverPolicy, pull},
        message::PublishMessage,
        stream::LastRawMessageErrorKind,
    },
};
use bytes::Bytes;
use futures::StreamExt as _;
use rbee_schema::{Chunk, JobId, Tenant};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::warn;
use uuid::Uuid;

use crate::{
    Bus, BusError, Subject,
    bus::{is_stale, json, number},
    server_error,
};

/// Time after which the server deletes a consumer that requests nothing: its reader is gone. Readers request continuously.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

/// Pause before a pull from a consumer that our server does not know yet is repeated. Servers of a cluster learn of it within
/// milliseconds.
const PAUSE: Duration = Duration::from_millis(50);

/// Number of chunks that are read in one request.
const BATCH: usize = 1_000;

/// Stored chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredChunk {
    /// Sequence in the stream `output`. The next append names it.
    pub sequence: u64,
    /// The chunk.
    pub chunk: Chunk,
}

/// Last stored chunk of a job's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastChunk {
    /// Sequence in the stream `output`. The next append names it.
    pub sequence: u64,
    /// True if the output is complete.
    pub is_last: bool,
    /// Time at which the server stored the chunk.
    pub stored: SystemTime,
}

/// Failure to append a chunk.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Another worker appended first and runs the job now.
    #[error("another worker has appended to the output")]
    Stale,
    /// The server did not answer. The chunk may be stored or not.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Bus {
    /// Appends a chunk after the chunk with sequence `last` (0 for the first one). Returns the sequence of the new chunk.
    ///
    /// # Errors
    /// Another worker has appended since, or the server does not answer.
    pub async fn append(&self, tenant: &Tenant, job: &JobId, chunk: &Chunk, last: u64) -> Result<u64, AppendError> {
        let subject = self.subject(&Subject::Output(tenant.clone(), job.clone()));
        let message = PublishMessage::build()
            .payload(json(chunk))
            .message_id(Uuid::now_v7().to_string())
            .expected_last_subject_sequence(last);
        match self.store(subject, message).await {
            Ok(stored) => Ok(stored.sequence),
            Err(error) if is_stale(&error) => Err(AppendError::Stale),
            Err(error) => Err(BusError::new(format!("append to the output of job {job}"), error).into()),
        }
    }

    /// Stored output of a job, from sequence `from` on.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn stored_output(&self, tenant: &Tenant, job: &JobId, from: u64) -> Result<Vec<StoredChunk>, BusError> {
        let deadline = Instant::now() + self.settings().request;
        loop {
            match self.fetch_output(tenant, job, from).await {
                Err(error) if server_error::is_unknown_consumer(&error.cause) && Instant::now() < deadline => {
                    sleep(PAUSE).await;
                }
                read => return read,
            }
        }
    }

    /// Last stored chunk of a job's output. `None` without output.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn last_chunk(&self, tenant: &Tenant, job: &JobId) -> Result<Option<LastChunk>, BusError> {
        let failed = |cause: String| BusError::new(format!("read the end of the output of job {job}"), cause);
        let subject = self.subject(&Subject::Output(tenant.clone(), job.clone()));
        let stream = self.jetstream().get_stream_no_info(self.namespace().resource("output")).await;
        let stream = stream.map_err(|error| failed(error.to_string()))?;
        match stream.get_last_raw_message_by_subject(&subject).await {
            Ok(last) => {
                let is_last = read(last.sequence, &last.payload).is_some_and(|stored| stored.chunk.is_last());
                Ok(Some(LastChunk { sequence: last.sequence, is_last, stored: last.time.into() }))
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    async fn fetch_output(&self, tenant: &Tenant, job: &JobId, from: u64) -> Result<Vec<StoredChunk>, BusError> {
        let failed = |cause: String| BusError::new(format!("read the output of job {job}"), cause);
        let subject = self.subject(&Subject::Output(tenant.clone(), job.clone()));
        let stream = self.namespace().resource("output");
        let stream = self.jetstream().get_stream_no_info(stream).await.map_err(|error| failed(error.to_string()))?;
        // The leader of the stream answers this request, so the answer includes every acknowledged append.
        let last = match stream.get_last_raw_message_by_subject(&subject).await {
            Ok(last) if last.sequence >= from => last,
            Ok(_) => return Ok(Vec::new()),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => return Ok(Vec::new()),
            Err(error) => return Err(failed(error.to_string())),
        };
        let config = pull::Config {
            filter_subject: subject,
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from.max(1) },
            ack_policy: AckPolicy::None,
            memory_storage: true,
            inactive_threshold: FORGOTTEN_AFTER,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| failed(error.to_string()))?;
        let mut chunks = Vec::new();
        loop {
            let batch = consumer.fetch().max_messages(BATCH).messages().await;
            let mut batch = batch.map_err(|error| failed(error.to_string()))?;
            let mut is_empty = true;
            while let Some(message) = timeout(self.settings().request, batch.next())
                .await
                .map_err(|_| failed("no answer in time".to_owned()))?
            {
                is_empty = false;
                let message = message.map_err(|error| failed(error.to_string()))?;
                let sequence = message.info().map_err(|error| failed(error.to_string()))?.stream_sequence;
                chunks.extend(read(sequence, &message.payload));
                if sequence >= last.sequence {
                    let _ = stream.delete_consumer(&consumer.cached_info().name).await;
                    return Ok(chunks);
                }
            }
            if is_empty {
                // The last chunk expired while the ones before it were read.
                return Ok(chunks);
            }
        }
    }

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
            ready: VecDeque::new(),
            ended: false,
        };
        reader.catch_up().await?;
        Ok(reader)
    }
}

/// Parses a chunk. An unknown chunk is skipped, because a later version may write kinds that this one does not know.
fn read(sequence: u64, payload: &Bytes) -> Option<StoredChunk> {
    serde_json::from_slice(payload).ok().map(|chunk| StoredChunk { sequence, chunk })
}

/// Failure to read the next chunk.
#[derive(Debug, thiserror::Error)]
pub enum OutputReadError {
    /// No chunk came in time. The job may still be running.
    #[error("no output for {0:?}")]
    TimedOut(Duration),
    /// The server does not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
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
    ready: VecDeque<StoredChunk>,
    ended: bool,
}

impl OutputReader {
    /// Next chunk. `None` after the last one.
    ///
    /// # Errors
    /// No chunk comes within `patience`, or the server does not answer.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<StoredChunk>, OutputReadError> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(stored) = self.ready.pop_front() {
                self.ended = stored.chunk.is_last();
                return Ok(Some(stored));
            }
            if self.ended {
                return Ok(None);
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
        let sequence = number(message, header::NATS_SEQUENCE.as_ref()).unwrap_or(0);
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
