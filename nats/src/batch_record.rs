//! Batches: their records in the bucket of keys `batches`, and their answers in the bucket of objects of that name.
//!
//! The answers of a batch are the content of an object that grows. Each piece holds the answers of whole lines and says in its
//! headers how many lines are answered: it is the checkpoint from which another queen continues. Each append names the piece before
//! it, so that a queen that no longer leads appends nothing.

use std::time::Duration;

use bytes::Bytes;
use rbee_schema::{BatchCounts, BatchId, BatchRecord, BatchState, Tenant};

use crate::{
    AppendPieceError, Bus, BusError, ObjectRecord, ObjectStore, PutError,
    bus::header,
    cell::{Cell, Found},
    job::is_object_of,
    object::PIECE,
    registry::Registry,
};

/// Header with the number of lines whose answers are stored up to a piece.
const LINES: &str = "Rbee-Lines";

/// Header with the number of answers among them.
const COMPLETED: &str = "Rbee-Completed";

/// Header with the number of errors among them.
const FAILED: &str = "Rbee-Failed";

/// Header of a piece that ends within the answer of a line: the sequence of the last checkpoint. Without a checkpoint behind it,
/// the piece does not count.
const PART_AFTER: &str = "Rbee-Part-After";

/// Records do not expire; a cell needs a time all the same.
const UNUSED: Duration = Duration::from_secs(1);

/// Progress of a batch: the end of its stored answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// Sequence of the last piece of the answers; 0 without any.
    pub sequence: u64,
    /// Number of lines whose answers are stored.
    pub lines: u64,
    /// Number of answers.
    pub completed: u64,
    /// Number of errors.
    pub failed: u64,
}

/// The batches of a fleet. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Batches {
    bus: Bus,
}

impl Bus {
    /// The batches of the fleet.
    pub fn batches(&self) -> Batches {
        Batches { bus: self.clone() }
    }
}

impl Batches {
    /// Requests and answers of the batches.
    pub fn files(&self) -> ObjectStore {
        ObjectStore::new(&self.bus, "batches")
    }

    /// Registry of the records.
    pub fn records(&self) -> Registry<BatchRecord> {
        Registry::batches(&self.bus)
    }

    /// Stores the record of a new batch. If there is one with this id, returns that.
    ///
    /// # Errors
    /// The server does not answer, or the record there cannot be read.
    pub async fn create(&self, id: &BatchId, record: BatchRecord) -> Result<BatchRecord, BusError> {
        loop {
            let cell = self.cell(id);
            let revision = match cell.read().await? {
                Found::Held(there, _) => return Ok(there),
                Found::Free(revision) => revision,
            };
            if cell.write_for_good(&record, revision).await?.is_some() {
                return Ok(record);
            }
        }
    }

    /// Record of a batch.
    ///
    /// # Errors
    /// The server does not answer, or the record cannot be read.
    pub async fn get(&self, id: &BatchId) -> Result<Option<BatchRecord>, BusError> {
        match self.cell(id).read().await? {
            Found::Held(record, _) => Ok(Some(record)),
            Found::Free(_) => Ok(None),
        }
    }

    /// Changes the record of a batch, unless it is in its last state. Returns the record afterwards; `None` if there is none.
    ///
    /// # Errors
    /// The server does not answer, or the record cannot be read.
    pub async fn update(
        &self,
        id: &BatchId,
        change: impl Fn(&mut BatchRecord),
    ) -> Result<Option<BatchRecord>, BusError> {
        loop {
            let cell = self.cell(id);
            let Found::Held(before, revision) = cell.read::<BatchRecord>().await? else { return Ok(None) };
            if before.state.is_final() {
                return Ok(Some(before));
            }
            let mut after = before.clone();
            change(&mut after);
            if after == before || cell.write_for_good(&after, revision).await?.is_some() {
                return Ok(Some(after));
            }
        }
    }

    /// Deletes a batch with its requests and answers.
    ///
    /// # Errors
    /// The server does not answer. What is left is swept later.
    pub async fn delete(&self, id: &BatchId, record: &BatchRecord) -> Result<(), BusError> {
        self.records().remove(id.as_str()).await?;
        let files = self.files();
        if is_object_of(&record.input, &record.tenant) {
            files.delete(&record.input).await?;
        }
        files.delete(&output_name(&record.tenant, id)).await?;
        files.delete_content(&record.run).await
    }

    /// Progress of a run. The beginning of a large answer whose end was not stored is deleted.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn checkpoint(&self, run: &str) -> Result<Checkpoint, BusError> {
        let files = self.files();
        loop {
            let Some((sequence, headers)) = files.last_piece_of(run).await? else { return Ok(Checkpoint::default()) };
            let number = |name| header(Some(&headers), name).and_then(|text| text.parse::<u64>().ok());
            match number(PART_AFTER) {
                Some(complete) => files.delete_pieces_after(run, complete, sequence).await?,
                None => {
                    let [lines, completed, failed] = [LINES, COMPLETED, FAILED].map(|name| number(name).unwrap_or(0));
                    return Ok(Checkpoint { sequence, lines, completed, failed });
                }
            }
        }
    }

    /// Appends answers to those of a run, after the checkpoint whose sequence `next` has. Returns the new checkpoint. Answers that
    /// are larger than a piece become several, of which the last one is the checkpoint.
    ///
    /// # Errors
    /// Another queen has appended, the bucket is full, or the server does not answer.
    pub async fn append(
        &self,
        run: &str,
        mut answers: Bytes,
        next: Checkpoint,
    ) -> Result<Checkpoint, AppendPieceError> {
        let (files, before) = (self.files(), next.sequence);
        let mut last = before;
        while answers.len() > PIECE {
            let part = [(PART_AFTER, before.to_string())];
            last = files.append(run, answers.split_to(PIECE), &part, last).await?;
        }
        let Checkpoint { lines, completed, failed, .. } = next;
        let headers =
            [(LINES, lines), (COMPLETED, completed), (FAILED, failed)].map(|(name, value)| (name, value.to_string()));
        let sequence = files.append(run, answers, &headers, last).await?;
        Ok(Checkpoint { sequence, ..next })
    }

    /// Makes an object of the answers of a run, and stores the last state of its batch.
    ///
    /// # Errors
    /// The bucket is full, or the server does not answer.
    pub async fn finish(
        &self,
        id: &BatchId,
        run: &str,
        change: impl Fn(&mut BatchRecord),
    ) -> Result<Option<ObjectRecord>, PutError> {
        let Some(record) = self.get(id).await?.filter(|record| record.run == run) else { return Ok(None) };
        let output = self.files().publish_content(run, &record.output).await?;
        self.update(id, change).await?;
        Ok(Some(output))
    }

    fn cell(&self, id: &BatchId) -> Cell<'_> {
        Cell::new(&self.bus, "batches", id.to_string(), UNUSED)
    }
}

/// Name of the object with the answers of a batch.
fn output_name(tenant: &Tenant, id: &BatchId) -> String {
    format!("{tenant}/{id}.output.jsonl")
}

/// Counts of a batch at a checkpoint.
impl Checkpoint {
    /// Counts for the record of a batch of `total` lines.
    pub fn counts(&self, total: u64) -> BatchCounts {
        BatchCounts { total, completed: self.completed, failed: self.failed }
    }
}

/// A new record.
pub fn new_batch(tenant: Tenant, model: Option<rbee_schema::ModelName>, input: String, id: &BatchId) -> BatchRecord {
    BatchRecord {
        output: output_name(&tenant, id),
        tenant,
        model,
        input,
        run: uuid::Uuid::new_v4().simple().to_string(),
        state: BatchState::Validating,
        cancel: false,
        counts: BatchCounts::default(),
        failure: None,
    }
}
