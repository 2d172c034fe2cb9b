//! Reading and writing objects.

use std::io;

use async_nats::jetstream::{
    ErrorCode,
    context::PublishError,
    message::PublishMessage,
    stream::{LastRawMessageErrorKind, Stream},
};
use bytes::{Bytes, BytesMut};
use rbee_schema::MAX_BODY_BYTES;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use uuid::Uuid;

use super::{
    digest::Digest,
    record::{ObjectRecord, token},
};
use crate::{
    Bus, BusError,
    batch::{Position, StoredMessage},
    bus::json,
    server_error,
};

/// Size of a piece in bytes: the largest that every server of a fleet accepts.
pub(crate) const PIECE: usize = MAX_BODY_BYTES;

/// A bucket of objects. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ObjectStore {
    pub(super) bus: Bus,
    pub(super) bucket: String,
}

/// Failure to read an object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The object does not exist, or a part of its content does not.
    #[error("{0} is not stored, or no longer")]
    Missing(String),
    /// The content is another one than the record of the object says.
    #[error("{0}")]
    Corrupt(String),
    /// The server does not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// Failure to store an object.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The bucket holds as many bytes as it may.
    #[error("the bucket is full: {0}")]
    Full(String),
    /// The content could not be read.
    #[error("the content could not be read: {0}")]
    Read(#[from] io::Error),
    /// The server did not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl ObjectStore {
    pub(crate) fn new(bus: &Bus, bucket: &str) -> Self {
        Self { bus: bus.clone(), bucket: bus.namespace().resource(bucket) }
    }

    /// Stores an object. When this returns, it is stored completely. An object of the same name is replaced; its content is swept
    /// later.
    ///
    /// # Errors
    /// The bucket is full, or the server does not answer. Nothing is left of the object, unless the server stays away.
    pub async fn put(&self, name: &str, content: &[u8]) -> Result<ObjectRecord, PutError> {
        self.put_from(name, content).await
    }

    /// Stores what a reader returns as an object, as [`ObjectStore::put`] does.
    ///
    /// # Errors
    /// Those of [`ObjectStore::put`], or the reader fails.
    pub async fn put_from(&self, name: &str, content: impl AsyncRead + Unpin) -> Result<ObjectRecord, PutError> {
        let nuid = Uuid::new_v4().simple().to_string();
        let stored = self.put_as(&nuid, name, content).await;
        if stored.is_err() {
            // What is left is swept later.
            let _ = self.purge(self.pieces(&nuid)).await;
        }
        stored
    }

    async fn put_as(
        &self,
        nuid: &str,
        name: &str,
        mut content: impl AsyncRead + Unpin,
    ) -> Result<ObjectRecord, PutError> {
        let mut record = ObjectRecord::new(nuid, name, &self.bucket);
        let mut digest = Digest::default();
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            (&mut content).take(PIECE as u64).read_to_end(&mut piece).await?;
            if piece.is_empty() {
                break;
            }
            record.size += piece.len() as u64;
            record.chunks += 1;
            digest.add(&piece);
            let stored = self.bus.store(self.pieces(nuid), PublishMessage::build().payload(piece.into())).await;
            stored.map_err(|error| self.refusal(name, &error))?;
        }
        self.put_record(ObjectRecord { digest: Some(digest.text()), ..record }).await
    }

    pub(super) async fn put_record(&self, record: ObjectRecord) -> Result<ObjectRecord, PutError> {
        let message = PublishMessage::build().payload(json(&record)).header("Nats-Rollup", "sub");
        let stored = self.bus.store(self.record(&record.name), message).await;
        stored.map_err(|error| self.refusal(&record.name, &error))?;
        Ok(record)
    }

    fn refusal(&self, name: &str, error: &PublishError) -> PutError {
        let cause = error.to_string();
        if server_error::is_full(&cause) {
            PutError::Full(cause)
        } else {
            BusError::new(format!("store {name} in the bucket {}", self.bucket), cause).into()
        }
    }

    /// Record of an object. `None` if there is no such object, or no such one that can be read.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn find(&self, name: &str) -> Result<Option<ObjectRecord>, BusError> {
        let failed = |cause: String| BusError::new(format!("read {name} in the bucket {}", self.bucket), cause);
        // The leader of the stream answers this request, so the answer includes what was just stored.
        match self.stream().await?.get_last_raw_message_by_subject(&self.record(name)).await {
            Ok(stored) => Ok(ObjectRecord::read(&stored.payload).filter(|record| !record.deleted)),
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(None),
                // Whoever deleted the stream has deleted the objects.
                LastRawMessageErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    Ok(None)
                }
                _ => Err(failed(error.to_string())),
            },
        }
    }

    /// Content of an object, as its record says. The record limits the memory that this takes.
    ///
    /// # Errors
    /// Content is missing or corrupt, or the server does not answer.
    pub async fn read(&self, record: &ObjectRecord) -> Result<Bytes, ObjectError> {
        let (mut pieces, mut content) = (self.reader(record), BytesMut::new());
        while let Some(piece) = pieces.next().await? {
            content.extend_from_slice(&piece);
        }
        Ok(content.freeze())
    }

    /// Deletes an object: its record, then its content. Deleting an object that does not exist succeeds.
    ///
    /// # Errors
    /// The server does not answer. What is left is swept later.
    pub async fn delete(&self, name: &str) -> Result<(), BusError> {
        let found = self.find(name).await?;
        self.purge(self.record(name)).await?;
        match found {
            Some(record) => self.purge(self.pieces(&record.nuid)).await,
            None => Ok(()),
        }
    }

    pub(super) async fn purge(&self, subject: String) -> Result<(), BusError> {
        let purged = self.stream().await?.purge().filter(&subject).await;
        purged.map(drop).map_err(|error| BusError::new(format!("delete {subject}"), error))
    }

    pub(super) async fn batch(&self, filter: &str, from: u64, limit: usize) -> Result<Vec<StoredMessage>, BusError> {
        self.bus.read_stream_batch(&self.stream_name(), filter, Position::Sequence(from), limit).await
    }

    pub(super) async fn stream(&self) -> Result<Stream<()>, BusError> {
        let stream = self.bus.jetstream().get_stream_no_info(self.stream_name()).await;
        stream.map_err(|error| BusError::new(format!("open the bucket {}", self.bucket), error))
    }

    pub(crate) fn stream_name(&self) -> String {
        format!("OBJ_{}", self.bucket)
    }

    /// Subject of the record of an object.
    fn record(&self, name: &str) -> String {
        format!("$O.{}.M.{}", self.bucket, token(name))
    }

    /// Filter of all records.
    pub(super) fn all_records(&self) -> String {
        format!("$O.{}.M.>", self.bucket)
    }

    /// Subject of the content of an object.
    pub(super) fn pieces(&self, nuid: &str) -> String {
        format!("$O.{}.C.{nuid}", self.bucket)
    }

    /// Filter of the content of all objects.
    pub(super) fn all_pieces(&self) -> String {
        self.pieces(">")
    }
}
