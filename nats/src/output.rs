//! Output: chunks appended by compare-and-set, and read so that no token is missed or seen twice. Steps 5 and 6 of a
//! job's path.
//!
//! Each append names the stream sequence of the chunk before it. A worker that was thought dead and writes again names
//! a sequence that is no longer the last, and is refused: acknowledgements do not fence, this does.

use std::{collections::VecDeque, time::Duration};

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
};

/// The server forgets a reader that asked for nothing for this long: one that is gone.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

/// Before a consumer that is not known yet is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// Chunks read in one request.
const PAGE: usize = 1_000;

/// A chunk that is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredChunk {
    /// Its place in the output stream; the next append names it.
    pub sequence: u64,
    /// What it says.
    pub chunk: Chunk,
}

/// A chunk that was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody else appended first: the job is no longer ours.
    #[error("the output has gone on without us")]
    Stale,
    /// The server did not answer: the chunk may be stored or not.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Bus {
    /// Appends a chunk after the one with sequence `last` (0 for the first) and returns its sequence.
    ///
    /// # Errors
    /// When it is not the next, or the server does not answer.
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

    /// The output of a job from sequence `from` on, as it stands now.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn stored_output(&self, tenant: &Tenant, job: &JobId, from: u64) -> Result<Vec<StoredChunk>, BusError> {
        let deadline = Instant::now() + self.settings().request;
        loop {
            match self.fetch_output(tenant, job, from).await {
                Err(error) if is_unknown_yet(&error) && Instant::now() < deadline => sleep(PAUSE).await,
                read => return read,
            }
        }
    }

    async fn fetch_output(&self, tenant: &Tenant, job: &JobId, from: u64) -> Result<Vec<StoredChunk>, BusError> {
        let failed = |cause: String| BusError::new(format!("read the output of job {job}"), cause);
        let subject = self.subject(&Subject::Output(tenant.clone(), job.clone()));
        let stream = self.namespace().resource("output");
        let stream = self.jetstream().get_stream_no_info(stream).await.map_err(|error| failed(error.to_string()))?;
        // The leader answers this, so that it holds every append that was acknowledged.
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
            let page = consumer.fetch().max_messages(PAGE).messages().await;
            let mut page = page.map_err(|error| failed(error.to_string()))?;
            let mut is_empty = true;
            while let Some(message) = timeout(self.settings().request, page.next())
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
                // The last chunk grew too old while the ones before it were read.
                return Ok(chunks);
            }
        }
    }

    /// Follows the output of a job from its beginning. Follow before submitting, and nothing is missed.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn read_output(&self, tenant: &Tenant, job: &JobId) -> Result<OutputReader, BusError> {
        let subject = self.subject(&Subject::Published(tenant.clone(), job.clone()));
        let live = self.subscribe(subject).await?;
        let mut follow = OutputReader {
            bus: self.clone(),
            tenant: tenant.clone(),
            job: job.clone(),
            live,
            online: self.online(),
            last: 0,
            ready: VecDeque::new(),
            ended: false,
        };
        follow.catch_up().await?;
        Ok(follow)
    }
}

/// Whether nobody answers for a consumer that was just made: in a cluster it may stand on a server of which ours has not
/// heard yet that it does.
fn is_unknown_yet(error: &BusError) -> bool {
    error.cause.contains("messages from the stream: 503")
}

/// A chunk that nobody can read is skipped: a later version may write kinds that this one does not know.
fn read(sequence: u64, payload: &Bytes) -> Option<StoredChunk> {
    serde_json::from_slice(payload).ok().map(|chunk| StoredChunk { sequence, chunk })
}

/// Why there is no next chunk.
#[derive(Debug, thiserror::Error)]
pub enum OutputReadError {
    /// None came in time; the job goes on.
    #[error("no output for {0:?}")]
    TimedOut(Duration),
    /// The server does not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// The output of one job as it comes: every chunk once, in order, whatever the connection loses.
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
    /// The next chunk; `None` after the last.
    ///
    /// # Errors
    /// When none comes within `patience`, or the server does not answer.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<StoredChunk>, OutputReadError> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(committed) = self.ready.pop_front() {
                self.ended = committed.chunk.is_last();
                return Ok(Some(committed));
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
                    Some(message) => self.hear(&message).await,
                    None => return Err(BusError::new("follow a job", "the connection is closed").into()),
                },
                // What was told while the connection was away was not heard.
                Ok(()) = self.online.changed() => self.look().await,
                () = sleep(left.min(self.bus.settings().output_recheck)) => self.look().await,
            }
        }
    }

    async fn hear(&mut self, message: &async_nats::Message) {
        let sequence = number(message, header::NATS_SEQUENCE.as_ref()).unwrap_or(0);
        if sequence <= self.last {
            return;
        }
        // The server names the chunk before it on the same subject: another one than our last was lost on its way.
        if number(message, header::NATS_LAST_SEQUENCE.as_ref()).unwrap_or(0) > self.last {
            return self.look().await;
        }
        self.last = sequence;
        self.ready.extend(read(sequence, &message.payload));
    }

    /// Catches up if the server is there; if not, patience decides.
    async fn look(&mut self) {
        let is_online = *self.online.borrow_and_update();
        if is_online && let Err(error) = self.catch_up().await {
            warn!(job = %self.job, %error, "what was missed cannot be read yet");
        }
    }

    async fn catch_up(&mut self) -> Result<(), BusError> {
        let missed = self.bus.stored_output(&self.tenant, &self.job, self.last + 1).await?;
        if let Some(committed) = missed.last() {
            self.last = committed.sequence;
        }
        self.ready.extend(missed);
        Ok(())
    }
}
