//! Lists of hives, models and workers, page by page.

use std::{collections::BTreeMap, fmt::Display, ops::Bound, str::FromStr};

use rbee_schema::{
    Failure, FailureCode, HiveName, ModelName,
    api::{Hive, Hives, Models, PageRequest, RefusedModel, Workers},
};

use super::document::{count, model_document, worker_document};
use crate::decide::fleet::{Fleet, WorkerKey};

/// Documents in one page. A document takes less than a kilobyte, and the server takes messages of a megabyte.
const PAGE_SIZE: usize = 500;

/// Invalid declarations listed with the first page of models. They share the message with a page of documents.
const LISTED_REFUSALS: usize = 500;

/// Keys of the page behind `after`, and the key after which the next page starts, if there is one.
fn page<K: Ord, V>(all: &BTreeMap<K, V>, after: Option<K>) -> (Vec<&K>, Option<&K>) {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut keys: Vec<&K> = all.range((from, Bound::Unbounded)).take(PAGE_SIZE + 1).map(|(key, _)| key).collect();
    let has_more = keys.len() > PAGE_SIZE;
    keys.truncate(PAGE_SIZE);
    let next = keys.last().copied().filter(|_| has_more);
    (keys, next)
}

/// Reads the `next` of an earlier page.
fn after<K: FromStr<Err: Display>>(PageRequest { after }: &PageRequest) -> Result<Option<K>, Failure> {
    let invalid = |error: K::Err| invalid_after(&format!("expected the `next` of an earlier page: {error}"));
    after.as_ref().map(|after| after.parse().map_err(invalid)).transpose()
}

fn invalid_after(expected: &str) -> Failure {
    Failure::new(FailureCode::InvalidRequest, format!("`after` is invalid: {expected}"))
}

pub(super) fn models(fleet: &Fleet, query: PageRequest) -> Result<Models, Failure> {
    let refused =
        |(name, failure): (&ModelName, &Failure)| RefusedModel { name: name.clone(), failure: failure.clone() };
    let after = after(&query)?;
    let is_first = after.is_none();
    let (names, next) = page(fleet.models(), after);
    Ok(Models {
        models: names.into_iter().filter_map(|name| model_document(fleet, name)).collect(),
        refused: fleet.refused_models().iter().filter(|_| is_first).take(LISTED_REFUSALS).map(refused).collect(),
        next: next.map(ToString::to_string),
    })
}

pub(super) fn hives(fleet: &Fleet, query: PageRequest) -> Result<Hives, Failure> {
    let hive = |name: &HiveName| {
        let known = fleet.hives().get(name)?;
        Some(Hive {
            name: name.clone(),
            record: known.record.clone(),
            workers: count(fleet.load(name)),
            presence: known.liveness.presence().as_str().to_owned(),
            free: known.free,
        })
    };
    let (names, next) = page(fleet.hives(), after(&query)?);
    Ok(Hives { hives: names.into_iter().filter_map(hive).collect(), next: next.map(ToString::to_string) })
}

pub(super) fn workers(fleet: &Fleet, PageRequest { after }: PageRequest) -> Result<Workers, Failure> {
    let key = |text: String| {
        let (hive, worker) = text.split_once('/')?;
        Some((hive.parse().ok()?, worker.parse().ok()?))
    };
    let invalid = || invalid_after("expected the `next` of an earlier page, HIVE/WORKER");
    let after: Option<WorkerKey> = after.map(|text| key(text).ok_or_else(invalid)).transpose()?;
    let (keys, next) = page(fleet.workers(), after);
    let worker = |key: &WorkerKey| Some(worker_document(fleet, key, fleet.worker(key)?));
    let next = next.map(|(hive, worker)| format!("{hive}/{worker}"));
    Ok(Workers { workers: keys.into_iter().filter_map(worker).collect(), next })
}
