//! Stored output of a job, read in one go.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::{
    consumer::{AckPolicy, DeliverPolicy, pull},
    stream::{LastRawMessageErrorKind, Stream},
};
use bytes::Bytes;
use futures::StreamExt as _;
use rbee_schema::{Chunk, JobId, Tenant};
use tokio::time::{Instant, sleep, timeout};

use crate::{Bus, BusError, Subject, server_error};

/// Time after which the server deletes a consumer that requests nothing: its reader is gone. Readers request continuously.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

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

impl Bus {
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

    async fn fetch_output(&self, tenant: &Tenant, job: &JobId, from: u64) -> Result<Vec<StoredChunk>, BusError> {
        let failed = |cause: String| BusError::new(format!("read the output of job {job}"), cause);
        let subject = self.subject(&Subject::Output(tenant.clone(), job.clone()));
        let stream = self.output_stream().await?;
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

    /// Last stored chunk of a job's output. `None` without output.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn last_chunk(&self, tenant: &Tenant, job: &JobId) -> Result<Option<LastChunk>, BusError> {
        let subject = self.subject(&Subject::Output(tenant.clone(), job.clone()));
        match self.output_stream().await?.get_last_raw_message_by_subject(&subject).await {
            Ok(last) => {
                let is_last = read(last.sequence, &last.payload).is_some_and(|stored| stored.chunk.is_last());
                Ok(Some(LastChunk { sequence: last.sequence, is_last, stored: last.time.into() }))
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(BusError::new(format!("read the end of the output of job {job}"), error)),
        }
    }

    pub(super) async fn output_stream(&self) -> Result<Stream<()>, BusError> {
        let stream = self.jetstream().get_stream_no_info(self.namespace().resource("output")).await;
        stream.map_err(|error| BusError::new("open the output stream", error))
    }
}

/// Parses a chunk. An unknown chunk is skipped, because a later version may write kinds that this one does not know.
pub(super) fn read(sequence: u64, payload: &Bytes) -> Option<StoredChunk> {
    serde_json::from_slice(payload).ok().map(|chunk| StoredChunk { sequence, chunk })
}
