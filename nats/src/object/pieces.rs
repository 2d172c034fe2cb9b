//! The content of an object, read piece by piece.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::{
    digest::Digest,
    record::ObjectRecord,
    store::{ObjectError, ObjectStore},
};
use crate::{BusError, batch::MANY};

/// Pause before pieces are read again that our server does not have yet. Servers of a cluster get them within milliseconds.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// Reader of an object's content. It holds a few megabytes at a time.
#[derive(Debug)]
pub struct PieceReader {
    store: ObjectStore,
    record: ObjectRecord,
    /// Sequence from which on pieces are read.
    from: u64,
    /// Number of bytes that were returned.
    read: u64,
    ready: VecDeque<Bytes>,
    digest: Digest,
}

impl ObjectStore {
    /// Reader of the content of an object.
    pub fn reader(&self, record: &ObjectRecord) -> PieceReader {
        let (store, record) = (self.clone(), record.clone());
        PieceReader { store, record, from: 1, read: 0, ready: VecDeque::new(), digest: Digest::default() }
    }
}

impl PieceReader {
    /// Next piece. `None` after the last one, when the whole content is what the record of the object says.
    ///
    /// # Errors
    /// Content is missing or corrupt, or the server does not answer.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ObjectError> {
        if self.ready.is_empty() && self.read < self.record.size {
            self.fetch().await?;
        }
        match self.ready.pop_front() {
            Some(piece) => {
                self.read += piece.len() as u64;
                self.digest.add(&piece);
                if self.read > self.record.size {
                    return Err(self.corrupt("it has more bytes than its record says"));
                }
                Ok(Some(piece))
            }
            None => match &self.record.digest {
                Some(expected) if *expected != self.digest.clone().text() => {
                    Err(self.corrupt("its digest is not that of its content"))
                }
                Some(_) | None => Ok(None),
            },
        }
    }

    /// Reads the next pieces. In a cluster, another server than the leader may answer, which gets the last pieces a moment later.
    async fn fetch(&mut self) -> Result<(), ObjectError> {
        let deadline = Instant::now() + self.store.bus.settings().request;
        let subject = self.store.pieces(&self.record.nuid);
        loop {
            let batch = self.store.batch(&subject, self.from, MANY).await?;
            if let Some(last) = batch.last() {
                self.from = last.sequence + 1;
                self.ready.extend(batch.into_iter().map(|piece| piece.payload));
                return Ok(());
            }
            if !self.is_current().await? {
                return Err(ObjectError::Missing(self.record.name.clone()));
            }
            if Instant::now() >= deadline {
                return Err(ObjectError::Missing(format!("the end of {}", self.record.name)));
            }
            sleep(PAUSE).await;
        }
    }

    /// True if the object was neither deleted nor replaced.
    async fn is_current(&self) -> Result<bool, BusError> {
        let found = self.store.find(&self.record.name).await?;
        Ok(found.is_some_and(|found| found.nuid == self.record.nuid))
    }

    fn corrupt(&self, what: &str) -> ObjectError {
        ObjectError::Corrupt(format!("{}: {what}", self.record.name))
    }
}
