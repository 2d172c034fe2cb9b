//! Inputs from the registries of hives, workers, models and files.

use std::time::Instant;

use rbee_nats::Entry;
use rbee_schema::{
    Event as BusEvent, Failure, FailureCode, FileRecord, HiveRecord, ModelEvent, ModelName, ModelSpec, WorkerRecord,
};
use tracing::{debug, info, warn};

use super::Controller;
use crate::{decide::fleet::WorkerKey, metrics};

impl Controller {
    pub(super) fn handle_hive(&mut self, entry: Entry<HiveRecord>) {
        match entry {
            Entry::Set { key, document, .. } => {
                let Ok(hive) = key.parse() else { return ignore_key("hive", &key) };
                if !self.fleet.hives().contains_key(&hive) {
                    info!(%hive, "a hive has joined");
                }
                let effects = self.fleet.hive_registered(hive, document, Instant::now());
                self.apply(effects);
            }
            Entry::Removed(key) => {
                let Ok(hive) = key.parse() else { return };
                info!(%hive, "the registry key of a hive is gone");
                self.fleet.hive_key_removed(&hive);
            }
            Entry::Unreadable { key, error, .. } => {
                metrics::ignored("record of a hive");
                warn!(key, error, "the record of a hive could not be read");
            }
            Entry::Synced => self.registry_read(),
        }
    }

    pub(super) fn handle_worker(&mut self, entry: Entry<WorkerRecord>) {
        match entry {
            Entry::Set { key, document, stored, .. } => {
                let Some(worker) = worker_key(&key) else { return ignore_key("worker", &key) };
                debug!(key, phase = document.phase.as_str(), "the record of a worker was written");
                let effects = self.fleet.worker_updated(worker.clone(), document, Instant::now());
                self.fleet.worker_recorded_at(&worker, stored);
                self.apply(effects);
                if self.fleet.worker(&worker).is_some_and(|worker| !worker.has_process()) {
                    self.jobs_returned(&worker);
                }
            }
            Entry::Removed(key) => {
                let Some(worker) = worker_key(&key) else { return };
                let effects = self.fleet.worker_record_removed(&worker, Instant::now());
                self.apply(effects);
                self.jobs_returned(&worker);
            }
            Entry::Unreadable { key, error, .. } => {
                metrics::ignored("record of a worker");
                warn!(key, error, "the record of a worker could not be read");
            }
            Entry::Synced => self.registry_read(),
        }
    }

    pub(super) fn handle_model(&mut self, entry: Entry<ModelSpec>) {
        match entry {
            Entry::Set { key, document: spec, revision, .. } => {
                let Ok(model) = key.parse::<ModelName>() else { return ignore_key("model", &key) };
                match spec.check() {
                    Err(failure) => self.refuse_declaration(model, failure),
                    Ok(()) if self.fleet.models().get(&model) == Some(&spec) => {}
                    Ok(()) => self.model_declared(model, spec, revision),
                }
            }
            Entry::Unreadable { key, error, .. } => {
                let Ok(model) = key.parse::<ModelName>() else { return ignore_key("model", &key) };
                self.refuse_declaration(model, Failure::new(FailureCode::InvalidRequest, error));
            }
            Entry::Removed(key) => {
                let Ok(model) = key.parse::<ModelName>() else { return };
                let was_known =
                    self.fleet.models().contains_key(&model) || self.fleet.refused_models().contains_key(&model);
                self.fleet.model_withdrawn(&model);
                if was_known {
                    self.publish_model_event(model.clone(), ModelEvent::Withdrawn {});
                }
                if self.has_read_registries() {
                    self.refuse_unknown(model);
                }
            }
            Entry::Synced => self.registry_read(),
        }
    }

    /// A worker has no process any more, and its jobs wait again.
    fn jobs_returned(&mut self, worker: &WorkerKey) {
        self.cancels_returned(worker);
        self.answer_begun(None);
    }

    fn model_declared(&mut self, model: ModelName, spec: ModelSpec, revision: u64) {
        info!(%model, reference = %spec.reference, "a model was declared");
        let before = self.fleet.model_declared(model.clone(), spec.clone());
        if self.has_read_registries() {
            // Every queen publishes the event, so that it is not lost while none leads; the server stores it once.
            let id = format!("declared-{model}-{revision}");
            let declared = ModelEvent::Declared { spec: Box::new(spec), before: before.map(Box::new) };
            self.outbox.publish_once(&BusEvent::Model(model, declared), &id);
        }
        self.count_queue();
    }

    fn refuse_declaration(&mut self, model: ModelName, failure: Failure) {
        metrics::ignored("declaration");
        if self.fleet.declaration_refused(model.clone(), failure.clone()) {
            warn!(%model, %failure, "a declaration is invalid and has no effect");
            self.publish_model_event(model, ModelEvent::Refused { failure });
        }
    }

    /// Publishes an event if this queen leads. Entries from before its start were published when they were written.
    fn publish_model_event(&self, model: ModelName, event: ModelEvent) {
        if self.has_read_registries() && self.leads() {
            self.outbox.publish(&BusEvent::Model(model, event));
        }
    }

    pub(super) fn handle_file(&mut self, entry: Entry<FileRecord>) {
        let hive = |key: &str| key.split_once('.').and_then(|(hive, _)| hive.parse().ok());
        match entry {
            Entry::Set { key, document, .. } => match hive(&key) {
                Some(hive) => self.fleet.file_fetched(hive, key, document.reference),
                None => ignore_key("file", &key),
            },
            Entry::Removed(key) => {
                if let Some(hive) = hive(&key) {
                    self.fleet.file_removed(&hive, &key);
                }
            }
            Entry::Unreadable { key, error, .. } => warn!(key, error, "the record of a model file could not be read"),
            Entry::Synced => self.registry_read(),
        }
    }

    /// A registry was read to its end.
    pub(super) fn registry_read(&mut self) {
        self.unread_registries -= 1;
        self.fleet.mark_everything();
        self.count_queue();
    }
}

fn worker_key(key: &str) -> Option<WorkerKey> {
    let (hive, worker) = key.split_once('.')?;
    Some((hive.parse().ok()?, worker.parse().ok()?))
}

/// Counts a key that is no valid name. It is logged at debug level only: otherwise anybody could fill the logs.
pub(super) fn ignore_key(what: &'static str, key: &str) {
    metrics::ignored(what);
    debug!(what, key, "the key is no valid name and is ignored");
}
