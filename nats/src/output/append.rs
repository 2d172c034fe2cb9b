//! Appends chunks to the output of a job.

use async_nats::jetstream::{
    context::{PublishError, PublishErrorKind},
    message::PublishMessage,
};
use rbee_schema::{Chunk, JobId, Tenant};
use uuid::Uuid;

use crate::{
    Bus, BusError, Subject,
    bus::{is_stale, json},
    server_error,
};

/// Failure to append a chunk.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The named chunk is not the last one. Another worker appended first and runs the job now, or stored chunks of the job
    /// were deleted: see [`Bus::last_chunk`].
    #[error("the last chunk of the output is another one")]
    Stale,
    /// The stream holds as many bytes as it may.
    #[error("the output stream is full: {0}")]
    Full(String),
    /// The chunk is larger than the server or the stream accepts, and always will be.
    #[error("the chunk has {size} bytes, more than a message may have: {cause}")]
    TooLarge {
        /// Size of the chunk in bytes.
        size: usize,
        /// Error of the client or the server.
        cause: String,
    },
    /// The server did not answer. The chunk may be stored or not.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Bus {
    /// Appends a chunk after the chunk with sequence `last` (0 for the first one). Returns the sequence of the new chunk.
    ///
    /// # Errors
    /// Those of [`AppendError`]. Only after [`AppendError::Bus`] may the chunk be stored.
    pub async fn append(&self, tenant: &Tenant, job: &JobId, chunk: &Chunk, last: u64) -> Result<u64, AppendError> {
        let subject = self.subject(&Subject::Output(tenant.clone(), job.clone()));
        let payload = json(chunk);
        let size = payload.len();
        let message = PublishMessage::build()
            .payload(payload)
            .message_id(Uuid::now_v7().to_string())
            .expected_last_subject_sequence(last);
        let stored = self.store(subject, message).await;
        stored.map(|stored| stored.sequence).map_err(|error| refusal(&error, job, size))
    }

    /// Publishes a chunk to the subscribers of a job without storing it. Only for the failure of a job whose output cannot be
    /// stored: its client would wait otherwise.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn publish_unstored(&self, tenant: &Tenant, job: &JobId, chunk: &Chunk) -> Result<(), BusError> {
        self.publish(&Subject::Published(tenant.clone(), job.clone()), chunk).await
    }
}

fn refusal(error: &PublishError, job: &JobId, size: usize) -> AppendError {
    let cause = error.to_string();
    if is_stale(error) {
        AppendError::Stale
    } else if error.kind() == PublishErrorKind::MaxPayloadExceeded || server_error::is_too_large(&cause) {
        AppendError::TooLarge { size, cause }
    } else if server_error::is_full(&cause) {
        AppendError::Full(cause)
    } else {
        BusError::new(format!("append to the output of job {job}"), cause).into()
    }
}
