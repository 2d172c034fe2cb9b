//! Model files: fetched and deleted by command, listed in the registry.

use rbee_nats::{BusError, Registry};
use rbee_schema::{Event, Failure, FailureCode, FileRecord, HiveEvent, ModelReference};
use tracing::{info, warn};

use super::{hive::Hive, report::Report, state::Supervisor};
use crate::{
    metrics,
    store::{Progress, Store},
};

impl Supervisor {
    pub(super) fn fetch(&mut self, reference: ModelReference) {
        let ModelReference::Hub(file) = &reference else {
            let message = format!("cannot fetch {reference}: only hf: references can be fetched");
            let failure = Failure::new(FailureCode::InvalidRequest, message);
            return self.hive.publish(HiveEvent::FetchFailed { reference, failure });
        };
        info!(%reference, "fetching a model file");
        let (store, file) = (self.store.clone(), file.clone());
        let publish = progress_publisher(&self.hive, &reference);
        self.tasks.spawn(async move {
            let outcome = store.fetch(&file, publish).await;
            Report::Fetched { reference, outcome }
        });
    }

    pub(super) fn fetched(&mut self, reference: ModelReference, outcome: Result<FileRecord, Failure>) {
        match outcome {
            Ok(record) => {
                info!(%reference, bytes = record.bytes, "fetched a model file");
                metrics::fetched();
                metrics::bytes_fetched(record.bytes);
                let (bytes, sha256) = (record.bytes, record.sha256.clone());
                self.hive.put_file_record(&record);
                self.hive.publish(HiveEvent::Fetched { reference, bytes, sha256 });
            }
            Err(failure) => {
                warn!(%reference, %failure, "failed to fetch a model file");
                metrics::fetch_failed(failure.code);
                self.hive.publish(HiveEvent::FetchFailed { reference, failure });
            }
        }
    }

    pub(super) fn remove_file(&mut self, reference: ModelReference) {
        let user = self.workers.values().find(|managed| managed.worker.spec.reference == reference);
        if let Some(managed) = user {
            let worker = &managed.worker.name;
            let message = format!("{reference} is used by worker {worker}: stop it first (`rbee stop {worker}`)");
            return self.refuse(FailureCode::InvalidRequest, message);
        }
        let store = self.store.clone();
        self.tasks.spawn(async move {
            let outcome = store.remove(&reference).await;
            Report::FileRemoved { reference, outcome }
        });
    }

    pub(super) fn file_removed(&mut self, reference: ModelReference, outcome: Result<u64, Failure>) {
        match outcome {
            Ok(bytes) => {
                info!(%reference, bytes, "deleted a model file");
                self.hive.remove_file_record(&reference);
                self.hive.publish(HiveEvent::FileRemoved { reference, bytes });
            }
            Err(failure) => self.hive.publish(HiveEvent::Refused { failure }),
        }
    }

    /// Makes the registry list exactly the model files that are in the store, in a task of its own.
    pub(super) fn register_files(&mut self) {
        let (store, hive) = (self.store.clone(), self.hive.clone());
        self.tasks.spawn(async move {
            if let Err(error) = publish_files(&store, &hive).await {
                warn!(%error, "failed to list the model files of this hive in the registry");
            }
            Report::Done
        });
    }
}

/// Makes the registry list exactly the model files that are in the store.
pub(super) async fn publish_files(store: &Store, hive: &Hive) -> Result<(), BusError> {
    let stored = store.list().await;
    let registry = Registry::files(&hive.bus);
    let prefix = format!("{}.", hive.config.name);
    let registered = registry.all().await?;
    for (key, record) in &registered {
        if key.starts_with(&prefix) && !stored.contains(record) {
            registry.remove(key).await?;
        }
    }
    let is_registered = |record: &FileRecord| {
        let key = hive.file_key(&record.reference);
        registered.iter().any(|(found, listed)| *found == key && listed == record)
    };
    stored.iter().filter(|record| !is_registered(record)).for_each(|record| hive.put_file_record(record));
    Ok(())
}

/// A function that publishes the progress of a fetch.
pub(super) fn progress_publisher(hive: &Hive, reference: &ModelReference) -> impl FnMut(Progress) + Send + use<> {
    let (outbox, hive, reference) = (hive.outbox.clone(), hive.config.name.clone(), reference.clone());
    move |Progress { done_bytes, total_bytes, .. }| {
        let progress = HiveEvent::FetchProgress { reference: reference.clone(), done_bytes, total_bytes };
        outbox.publish(&Event::Hive(hive.clone(), progress));
    }
}
