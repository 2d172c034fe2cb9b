//! Entries of the registries about this hive's workers and ports, compared with what the hive has, and mended where they differ.
//!
//! Changes of keys are handled as they arrive. Everything is compared after the connection was lost, and at each renewal of the
//! leases, for changes of which no notice arrived.

use std::collections::BTreeMap;

use rbee_nats::{Bus, BusError, Entry, PortClaim, Registry};
use rbee_schema::{FileRecord, HiveName, HostName, PortLease, WorkerName, WorkerRecord};
use tracing::{debug, warn};

use super::{managed::ManagedWorker, report::Report, state::Supervisor};
use crate::decide::mend::{KnownWorker, Mend, Registered, differences};

impl Supervisor {
    /// Handles a change of the record of a worker under this hive's name.
    pub(super) fn handle_worker_record(&mut self, entry: Entry<WorkerRecord>) {
        let key = match &entry {
            Entry::Set { key, .. } | Entry::Unreadable { key, .. } | Entry::Removed(key) => key,
            Entry::Synced => return,
        };
        let Some(worker) = self.hive.worker_of_key(key) else { return };
        match (entry, self.workers.contains_key(&worker)) {
            (Entry::Removed(_), true) => {
                warn!(%worker, "the record of a worker was deleted; writing it again");
                self.write_record(&worker);
            }
            (Entry::Unreadable { .. }, true) => self.write_record(&worker),
            (Entry::Set { .. } | Entry::Unreadable { .. }, false) => self.inspect_record(worker),
            (Entry::Set { .. }, true) | (Entry::Removed(_), false) | (Entry::Synced, _) => {}
        }
    }

    /// Handles a change of the list of this hive's model files.
    pub(super) fn handle_file_record(&mut self, entry: &Entry<FileRecord>) {
        if let Entry::Removed(_) = entry {
            // Also the notice of a removal by this hive itself: then the file is not in the store.
            self.register_files();
        }
    }

    /// Writes the record of a worker, whatever the registry has.
    fn write_record(&mut self, worker: &WorkerName) {
        if let Some(managed) = self.workers.get_mut(worker) {
            managed.published = None;
            self.publish_record(worker);
        }
    }

    /// Reads a record that names no worker of this hive: the notice of it may be older than its removal.
    fn inspect_record(&mut self, worker: WorkerName) {
        let records = Registry::<WorkerRecord>::workers(&self.hive.bus);
        let key = self.hive.worker_key(&worker);
        self.tasks.spawn(async move {
            match records.exists(&key).await {
                Ok(true) => Report::RecordFound(worker),
                Ok(false) => Report::Done,
                Err(error) => {
                    warn!(%worker, %error, "failed to read the record of a worker that is not here");
                    Report::Done
                }
            }
        });
    }

    /// Removes a record that is in the registry and names no worker of this hive.
    pub(super) fn record_found(&mut self, worker: &WorkerName) {
        if !self.workers.contains_key(worker) {
            warn!(%worker, "a record names a worker that this hive does not have; removing the record");
            self.hive.remove_worker_record(worker);
        }
    }

    /// Reads the registries, to compare them with what the hive has.
    pub(super) fn compare_with_registries(&mut self) {
        let (bus, name, host) = (self.hive.bus.clone(), self.hive.config.name.clone(), self.hive.config.host.clone());
        self.tasks.spawn(async move {
            match read(&bus, &name, &host).await {
                Ok(registered) => Report::Registered(registered),
                Err(error) => {
                    debug!(%error, "failed to read the registries; they are read again later");
                    Report::Done
                }
            }
        });
    }

    /// Mends what differs between the registries and the hive.
    pub(super) fn mend(&mut self, registered: &Registered) {
        let known = |managed: &ManagedWorker| KnownWorker {
            port: managed.run.as_ref().and_then(|_| managed.worker.record().port),
            record: managed.published.clone(),
        };
        let workers: BTreeMap<WorkerName, KnownWorker> =
            self.workers.iter().map(|(name, managed)| (name.clone(), known(managed))).collect();
        for mend in differences(&self.hive.config.name, &workers, registered) {
            debug!(?mend, "the registries differ from what this hive has");
            match mend {
                Mend::ClaimLease(worker) => self.claim_again(&worker),
                Mend::InspectLease(port) => self.inspect_lease(port),
                Mend::WriteRecord(worker) => self.write_record(&worker),
                Mend::InspectRecord(worker) => self.inspect_record(worker),
            }
        }
    }

    /// Claims the lease of a running worker's port again.
    pub(super) fn claim_again(&mut self, worker: &WorkerName) {
        let Some(managed) = self.workers.get(worker) else { return };
        let Some(port) = managed.run.as_ref().and_then(|_| managed.worker.record().port) else { return };
        self.renew_lease(PortClaim { port, revision: 0 }, managed.lease.clone());
    }
}

/// Reads the leases of a machine and the records of a hive.
async fn read(bus: &Bus, hive: &HiveName, host: &HostName) -> Result<Registered, BusError> {
    let mut registered = Registered::default();
    let leases = Registry::<PortLease>::ports(bus);
    for (key, lease) in leases.all_keys(&format!("{host}.*")).await? {
        let port = key.rsplit_once('.').and_then(|(_, port)| port.parse().ok());
        registered.leases.extend(port.map(|port: u16| (port, lease)));
    }
    let records = Registry::<WorkerRecord>::workers(bus);
    for (key, record) in records.all_keys(&format!("{hive}.*")).await? {
        let worker = key.rsplit_once('.').and_then(|(_, worker)| worker.parse().ok());
        registered.records.extend(worker.zip(record));
    }
    Ok(registered)
}
