//! One key of a bucket, written by compare-and-set, as `nats/src/cell.rs` and `nats/src/port.rs` do it.

use std::{rc::Rc, time::Duration};

use crate::{
    broker::{Answer, Headers, Op, Refusal, Stored},
    network::{Away, Connection},
    words::Body,
};

/// Time to live of the marker of a released key.
const MARKER: Duration = Duration::from_secs(1);

/// Key of a bucket.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    connection: Connection,
    bucket: Rc<str>,
    key: Rc<str>,
    time_to_live: Option<Duration>,
}

/// Content of a key.
#[derive(Debug)]
pub(super) enum Found {
    /// No document. Holds the revision to write the key with.
    Free(u64),
    /// A document with its revision.
    Held(Body, u64),
}

/// Outcome of a claim.
#[derive(Debug)]
pub(super) enum Claimed {
    /// The key is ours under this revision.
    Ours(u64),
    /// It holds another document.
    Held(Body),
}

impl Cell {
    pub(super) fn new(connection: &Connection, bucket: &str, key: &str, time_to_live: Option<Duration>) -> Self {
        let key = format!("{bucket}.{key}").into();
        Self { connection: connection.clone(), bucket: bucket.into(), key, time_to_live }
    }

    /// Writes a document if the key has this revision. `None` if it has another one.
    pub(super) async fn write(&self, document: Body, revision: u64) -> Result<Option<u64>, Away> {
        self.store(Some(document), Some(revision), self.time_to_live).await
    }

    /// Deletes the document if the key has this revision. `None` if it has another one.
    pub(super) async fn delete(&self, revision: u64) -> Result<Option<u64>, Away> {
        self.store(None, Some(revision), Some(MARKER)).await
    }

    /// Reads the key.
    pub(super) async fn read(&self) -> Result<Found, Away> {
        let (stream, subject) = (self.bucket.clone(), self.key.clone());
        match self.connection.request(|request| Op::Last { stream, subject, request }).await? {
            Answer::Last(Some(Stored { sequence, body: Some(body), .. })) => Ok(Found::Held(body, sequence)),
            Answer::Last(Some(Stored { sequence, .. })) => Ok(Found::Free(sequence)),
            _ => Ok(Found::Free(0)),
        }
    }

    /// Writes a document over its own, or into a free key.
    pub(super) async fn claim(&self, document: Body, revision: u64) -> Result<Claimed, Away> {
        if let Some(revision) = self.write(document.clone(), revision).await? {
            return Ok(Claimed::Ours(revision));
        }
        let revision = match self.read().await? {
            Found::Held(found, revision) if found == document => revision,
            Found::Free(revision) => revision,
            Found::Held(found, _) => return Ok(Claimed::Held(found)),
        };
        self.write(document, revision).await?.map(Claimed::Ours).ok_or(Away)
    }

    /// Deletes a document if it is still the own one. Returns the revision with which the key can be written again.
    pub(super) async fn release(&self, document: &Body, revision: u64) -> Result<Option<u64>, Away> {
        if let Some(revision) = self.delete(revision).await? {
            return Ok(Some(revision));
        }
        match self.read().await? {
            Found::Held(found, revision) if found == *document => self.delete(revision).await,
            Found::Held(..) => Ok(None),
            Found::Free(revision) => Ok(Some(revision)),
        }
    }

    async fn store(
        &self,
        body: Option<Body>,
        expect: Option<u64>,
        time_to_live: Option<Duration>,
    ) -> Result<Option<u64>, Away> {
        let (subject, headers) = (self.key.clone(), Headers { id: None, expect, time_to_live });
        let op = |request| Op::Publish { subject, body, size: 0, headers, request: Some(request) };
        match self.connection.request(op).await? {
            Answer::Stored { sequence, .. } => Ok(Some(sequence)),
            Answer::Refused(Refusal::Stale) => Ok(None),
            _ => Err(Away),
        }
    }
}
