//! The hive as the bus sees it: its configuration, its run number, and what it publishes under its name.

use rbee_nats::{Bus, Outbox, Registry};
use rbee_schema::{
    Event, FileRecord, HiveEvent, ModelReference, PortEvent, PortLease, WorkerEvent, WorkerName, WorkerRecord,
};

use crate::{config::HiveConfig, store::digest_of};

/// Configuration and bus handles of one run of the hive. Nothing here changes after the start.
#[derive(Clone)]
pub(super) struct Hive {
    pub(super) config: HiveConfig,
    /// Run number of the hive, one higher than that of its last run.
    pub(super) epoch: u64,
    pub(super) bus: Bus,
    pub(super) outbox: Outbox,
}

impl Hive {
    pub(super) fn publish(&self, event: HiveEvent) {
        self.outbox.publish(&Event::Hive(self.config.name.clone(), event));
    }

    pub(super) fn publish_port(&self, port: u16, event: PortEvent) {
        self.outbox.publish(&Event::Port(self.config.name.clone(), port, event));
    }

    pub(super) fn publish_worker(&self, worker: &WorkerName, event: WorkerEvent) {
        self.outbox.publish(&Event::Worker(self.config.name.clone(), worker.clone(), event));
    }

    pub(super) fn put_worker_record(&self, worker: &WorkerName, record: &WorkerRecord) {
        Registry::workers(&self.bus).put_ordered(&self.outbox, &self.worker_key(worker), record, None);
    }

    pub(super) fn remove_worker_record(&self, worker: &WorkerName) {
        Registry::<WorkerRecord>::workers(&self.bus).remove_ordered(&self.outbox, &self.worker_key(worker));
    }

    pub(super) fn put_file_record(&self, record: &FileRecord) {
        Registry::files(&self.bus).put_ordered(&self.outbox, &self.file_key(&record.reference), record, None);
    }

    pub(super) fn remove_file_record(&self, reference: &ModelReference) {
        Registry::files(&self.bus).remove_ordered(&self.outbox, &self.file_key(reference));
    }

    /// Lease document for a port of `worker`, written by this run of the hive.
    pub(super) fn lease_for(&self, worker: &WorkerName) -> PortLease {
        PortLease { hive: self.config.name.clone(), hive_epoch: self.epoch, worker: worker.clone() }
    }

    /// Worker in a key of the registry of workers, if it is one of this hive.
    pub(super) fn worker_of_key(&self, key: &str) -> Option<WorkerName> {
        let (hive, worker) = key.split_once('.')?;
        (hive == self.config.name.as_str()).then(|| worker.parse().ok())?
    }

    pub(super) fn worker_key(&self, worker: &WorkerName) -> String {
        format!("{}.{worker}", self.config.name)
    }

    pub(super) fn file_key(&self, reference: &ModelReference) -> String {
        format!("{}.{}", self.config.name, digest_of(reference))
    }
}
