//! Objects that grow: content is appended piece by piece, and the object exists when its record is stored. Each append names
//! the piece before it, so that only one writer appends.

use async_nats::{
    HeaderMap,
    jetstream::{message::PublishMessage, stream::LastRawMessageErrorKind},
};
use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::{
    digest::Digest,
    pieces::PAUSE,
    record::{ObjectRecord, is_id},
    store::{ObjectStore, PutError},
};
use crate::{BusError, batch::MANY, bus::is_stale, server_error};

/// Failure to append a piece.
#[derive(Debug, thiserror::Error)]
pub enum AppendPieceError {
    /// Another writer has appended.
    #[error("another writer has appended to the object")]
    Stale,
    /// The bucket holds as many bytes as it may.
    #[error("the bucket is full: {0}")]
    Full(String),
    /// The server did not answer. The piece may be stored or not.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl ObjectStore {
    /// Appends a piece with headers to the content `nuid`, behind the piece with the sequence `last` (0 for the first one). Returns
    /// its sequence.
    ///
    /// # Errors
    /// Those of [`AppendPieceError`].
    pub(crate) async fn append(
        &self,
        nuid: &str,
        piece: Bytes,
        headers: &[(&str, String)],
        last: u64,
    ) -> Result<u64, AppendPieceError> {
        let message = PublishMessage::build().payload(piece).expected_last_subject_sequence(last);
        let message = headers.iter().fold(message, |message, (name, value)| message.header(*name, value.as_str()));
        match self.bus.store(self.pieces(nuid), message).await {
            Ok(stored) => Ok(stored.sequence),
            Err(error) if is_stale(&error) => Err(AppendPieceError::Stale),
            Err(error) if server_error::is_full(&error.to_string()) => Err(AppendPieceError::Full(error.to_string())),
            Err(error) => Err(BusError::new(format!("append to the bucket {}", self.bucket), error).into()),
        }
    }

    /// Sequence and headers of the last piece of a content. `None` if there is none.
    ///
    /// # Errors
    /// The server does not answer.
    pub(crate) async fn last_piece_of(&self, nuid: &str) -> Result<Option<(u64, HeaderMap)>, BusError> {
        match self.stream().await?.get_last_raw_message_by_subject(&self.pieces(nuid)).await {
            Ok(last) => Ok(Some((last.sequence, last.headers))),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(BusError::new(format!("read the bucket {}", self.bucket), error)),
        }
    }

    /// Deletes the pieces of a content behind the sequence `after`, up to `last`.
    ///
    /// # Errors
    /// The server does not answer.
    pub(crate) async fn delete_pieces_after(&self, nuid: &str, after: u64, last: u64) -> Result<(), BusError> {
        let stream = self.stream().await?;
        let mut from = after + 1;
        while from <= last {
            let batch = self.batch(&self.pieces(nuid), from, MANY).await?;
            let Some(end) = batch.last().map(|piece| piece.sequence) else { return Ok(()) };
            for piece in batch {
                let deleted = stream.delete_message(piece.sequence).await;
                deleted.map_err(|error| BusError::new(format!("delete from the bucket {}", self.bucket), error))?;
            }
            from = end + 1;
        }
        Ok(())
    }

    /// Deletes a content without a record.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn delete_content(&self, nuid: &str) -> Result<(), BusError> {
        if is_id(nuid) { self.purge(self.pieces(nuid)).await } else { Ok(()) }
    }

    /// Makes an object of a content that was appended. Doing it twice does no harm.
    ///
    /// # Errors
    /// The bucket is full, or the server does not answer.
    pub(crate) async fn publish_content(&self, nuid: &str, name: &str) -> Result<ObjectRecord, PutError> {
        let (mut record, mut digest) = (ObjectRecord::new(nuid, name, &self.bucket), Digest::default());
        let end = self.last_piece_of(nuid).await?.map_or(0, |(sequence, _)| sequence);
        let mut from = 1;
        let deadline = Instant::now() + self.bus.settings().request;
        while from <= end {
            let batch = self.batch(&self.pieces(nuid), from, MANY).await?;
            let Some(last) = batch.last() else {
                if Instant::now() >= deadline {
                    return Err(BusError::new(format!("read {name} in the bucket {}", self.bucket), "timed out").into());
                }
                sleep(PAUSE).await;
                continue;
            };
            from = last.sequence + 1;
            for piece in &batch {
                record.size += piece.payload.len() as u64;
                record.chunks += 1;
                digest.add(&piece.payload);
            }
        }
        self.put_record(ObjectRecord { digest: Some(digest.text()), ..record }).await
    }
}
