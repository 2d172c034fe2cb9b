//! Batches by request: started, listed, looked up and cancelled. The leading queen runs them (`crate::batches`).

use rbee_nats::{Bus, BusError, is_object_of, new_batch};
use rbee_schema::{
    BatchId, BatchRecord, Failure, FailureCode,
    api::{Batch, BatchRequest, BatchRun, Batches, PageRequest},
};

/// Batches in one page. One takes a few hundred bytes, and the server takes messages of a megabyte.
const PAGE_SIZE: usize = 200;

/// Stores the record of a batch, which the leading queen then runs. If there is one with this id, returns that.
pub(super) async fn run(bus: &Bus, BatchRun { batch, tenant, model, input }: BatchRun) -> Result<Batch, Failure> {
    if !is_object_of(&input, &tenant) {
        let message =
            format!("input is `{input}`: expected {tenant}/NAME, because the batch belongs to the tenant {tenant}");
        return Err(Failure::new(FailureCode::InvalidRequest, message));
    }
    let id = batch.unwrap_or_else(BatchId::generate);
    let batches = bus.batches();
    if batches.files().find(&input).await.map_err(unreachable)?.is_none() {
        if let Some(record) = batches.get(&id).await.map_err(unreachable)? {
            return Ok(Batch { batch: id, record });
        }
        let message = format!(
            "{input} is not stored in the bucket `batches`: store the file first (`nats object put` or `rbee batch FILE`)"
        );
        return Err(Failure::new(FailureCode::BodyMissing, message));
    }
    let record = new_batch(tenant, model, input, &id);
    let record = batches.create(&id, record).await.map_err(unreachable)?;
    Ok(Batch { batch: id, record })
}

/// One batch.
pub(super) async fn get(bus: &Bus, BatchRequest { batch }: BatchRequest) -> Result<Batch, Failure> {
    match bus.batches().get(&batch).await.map_err(unreachable)? {
        Some(record) => Ok(Batch { batch, record }),
        None => Err(unknown(&batch)),
    }
}

/// Requests that a batch is cancelled. A batch that has ended stays as it is.
pub(super) async fn cancel(bus: &Bus, BatchRequest { batch }: BatchRequest) -> Result<Batch, Failure> {
    let cancelled = bus.batches().update(&batch, |record: &mut BatchRecord| record.cancel = true).await;
    match cancelled.map_err(unreachable)? {
        Some(record) => Ok(Batch { batch, record }),
        None => Err(unknown(&batch)),
    }
}

/// One page of all batches.
pub(super) async fn list(bus: &Bus, PageRequest { after }: PageRequest) -> Result<Batches, Failure> {
    let all = bus.batches().records().all().await.map_err(unreachable)?;
    let is_behind = |id: &BatchId| after.as_ref().is_none_or(|after| id.as_str() > after.as_str());
    let batch = |(key, record): (String, BatchRecord)| Some(Batch { batch: key.parse().ok()?, record });
    let mut batches: Vec<Batch> = all.into_iter().filter_map(batch).filter(|batch| is_behind(&batch.batch)).collect();
    batches.sort_by(|one, other| one.batch.cmp(&other.batch));
    let has_more = batches.len() > PAGE_SIZE;
    batches.truncate(PAGE_SIZE);
    let next = batches.last().filter(|_| has_more).map(|last| last.batch.to_string());
    Ok(Batches { batches, next })
}

fn unknown(batch: &BatchId) -> Failure {
    let message = format!("there is no batch {batch}: `rbee batch ls` lists those that are stored");
    Failure::new(FailureCode::UnknownBatch, message)
}

fn unreachable(error: BusError) -> Failure {
    Failure::new(FailureCode::TimedOut, error.to_string())
}
