//! Model files: fetched and deleted by command, and told of in the registry.

use rbee_nats::Registry;
use rbee_schema::{Event, Failure, FailureCode, FileRecord, HiveEvent, ModelReference};
use tracing::{info, warn};

use super::{Report, Supervisor};
use crate::{
    metrics,
    store::{Progress, digest_of},
};

impl Supervisor {
    pub(super) fn fetch(&mut self, reference: ModelReference) {
        let ModelReference::Hub(wanted) = &reference else {
            let message = format!("{reference} is not fetched: only hf: references are");
            let failure = Failure::new(FailureCode::InvalidRequest, message);
            return self.publish(HiveEvent::FetchFailed { reference, failure });
        };
        info!(%reference, "a model file is fetched");
        let (store, outbox, hive) = (self.store.clone(), self.outbox.clone(), self.config.name.clone());
        let (wanted, told) = (wanted.clone(), reference.clone());
        self.tasks.spawn(async move {
            let tell = move |Progress { done_bytes, total_bytes, .. }: Progress| {
                let progress = HiveEvent::FetchProgress { reference: told.clone(), done_bytes, total_bytes };
                outbox.publish(&Event::Hive(hive.clone(), progress));
            };
            let outcome = store.fetch(&wanted, tell).await;
            Report::Fetched { reference, outcome }
        });
    }

    pub(super) fn fetched(&mut self, reference: ModelReference, outcome: Result<FileRecord, Failure>) {
        match outcome {
            Ok(record) => {
                info!(%reference, bytes = record.bytes, "a model file is here");
                metrics::fetched();
                metrics::bytes_fetched(record.bytes);
                let (bytes, sha256) = (record.bytes, record.sha256.clone());
                self.show_file(&record);
                self.publish(HiveEvent::Fetched { reference, bytes, sha256 });
            }
            Err(failure) => {
                warn!(%reference, %failure, "a model file could not be fetched");
                metrics::fetch_failed(failure.code);
                self.publish(HiveEvent::FetchFailed { reference, failure });
            }
        }
    }

    pub(super) fn remove_file(&mut self, reference: ModelReference) {
        let user = self.charges.values().find(|charge| charge.worker.spec.reference == reference);
        if let Some(charge) = user {
            let worker = &charge.worker.name;
            let message = format!("{reference} is used by worker {worker}: stop it first (`rbee stop {worker}`)");
            let failure = Failure::new(FailureCode::InvalidRequest, message);
            return self.publish(HiveEvent::Refused { failure });
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
                info!(%reference, bytes, "a model file was deleted");
                Registry::files(&self.bus).remove_ordered(&self.outbox, &self.file_key(&reference));
                self.publish(HiveEvent::FileRemoved { reference, bytes });
            }
            Err(failure) => self.publish(HiveEvent::Refused { failure }),
        }
    }

    /// What the registry says of the files of this hive: what is here now, and no more.
    pub(super) async fn show_files(&mut self) -> Result<(), rbee_nats::BusError> {
        let here = self.store.list().await;
        let registry = Registry::files(&self.bus);
        let prefix = format!("{}.", self.config.name);
        for (key, record) in registry.all().await? {
            if key.starts_with(&prefix) && !here.contains(&record) {
                registry.remove(&key).await?;
            }
        }
        for record in &here {
            self.show_file(record);
        }
        Ok(())
    }

    pub(super) fn show_file(&self, record: &FileRecord) {
        Registry::files(&self.bus).put_ordered(&self.outbox, &self.file_key(&record.reference), record, None);
    }

    fn file_key(&self, reference: &ModelReference) -> String {
        format!("{}.{}", self.config.name, digest_of(reference))
    }
}
