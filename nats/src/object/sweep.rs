//! Search for old objects, and deletion of content without a record: the client that stored it has ended half-way.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use async_nats::jetstream::stream::LastRawMessageErrorKind;
use futures::StreamExt as _;

use super::{record::ObjectRecord, store::ObjectStore};
use crate::{
    Bus, BusError,
    batch::{MANY, StoredMessage},
};

/// Objects that are old enough to be deleted if nobody needs them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OldObjects {
    /// Names of the objects.
    pub names: Vec<String>,
    /// Number of contents without a record that were deleted.
    pub deleted: u64,
}

/// Message that holds the record of an object.
struct StoredRecord {
    subject: String,
    stored: SystemTime,
    /// `None` for a deleted object, and for a record that nobody can read.
    record: Option<ObjectRecord>,
}

impl ObjectStore {
    /// Objects that were stored longer than `age` ago. Deletes what is left of deleted ones, and content of this age that has no
    /// record and is not `kept`.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn old_objects(&self, age: Duration, kept: &HashSet<String>) -> Result<OldObjects, BusError> {
        let info = self.stream().await?.get_info().await;
        let info = info.map_err(|error| BusError::new(format!("open the bucket {}", self.bucket), error))?;
        if info.state.messages == 0 {
            return Ok(OldObjects::default());
        }
        let stored_before = self.bus.server_time().await?.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        // First the content, then the records: content whose record comes in between is not without one.
        let contents = self.contents().await?;
        let (mut old, mut known) = (OldObjects::default(), kept.clone());
        for StoredRecord { subject, stored, record } in self.records().await? {
            match record {
                Some(record) => {
                    if stored < stored_before {
                        old.names.push(record.name);
                    }
                    known.insert(record.nuid);
                }
                None if stored < stored_before => self.purge(subject).await?,
                None => {}
            }
        }
        for nuid in contents.into_iter().filter(|nuid| !known.contains(nuid)) {
            if self.last_piece(&nuid).await?.is_some_and(|stored| stored < stored_before) {
                self.purge(self.pieces(&nuid)).await?;
                old.deleted += 1;
            }
        }
        Ok(old)
    }

    /// All objects.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn list(&self) -> Result<Vec<ObjectRecord>, BusError> {
        Ok(self.records().await?.into_iter().filter_map(|stored| stored.record).collect())
    }

    async fn records(&self) -> Result<Vec<StoredRecord>, BusError> {
        let (mut records, mut from) = (Vec::new(), 1);
        loop {
            let batch = self.batch(&self.all_records(), from, MANY).await?;
            let Some(last) = batch.last() else { return Ok(records) };
            from = last.sequence + 1;
            records.extend(batch.into_iter().map(|StoredMessage { subject, stored, payload, .. }| {
                let record = ObjectRecord::read(&payload).filter(|record| !record.deleted);
                StoredRecord { subject, stored, record }
            }));
        }
    }

    /// Ids of all contents.
    async fn contents(&self) -> Result<Vec<String>, BusError> {
        let failed = |cause: String| BusError::new(format!("list the bucket {}", self.bucket), cause);
        let stream = self.stream().await?;
        let subjects = stream.info_with_subjects(self.all_pieces()).await;
        let mut subjects = subjects.map_err(|error| failed(error.to_string()))?;
        let mut ids = Vec::new();
        while let Some(subject) = subjects.next().await {
            let (subject, _) = subject.map_err(|error| failed(error.to_string()))?;
            ids.extend(subject.rsplit('.').next().map(str::to_owned));
        }
        Ok(ids)
    }

    /// Time at which the last piece of a content was stored.
    async fn last_piece(&self, nuid: &str) -> Result<Option<SystemTime>, BusError> {
        match self.stream().await?.get_last_raw_message_by_subject(&self.pieces(nuid)).await {
            Ok(last) => Ok(Some(last.time.into())),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(BusError::new(format!("read the bucket {}", self.bucket), error)),
        }
    }
}

impl Bus {
    /// The bucket `bodies`: bodies of jobs that are larger than a message.
    pub fn bodies(&self) -> ObjectStore {
        ObjectStore::new(self, "bodies")
    }
}
