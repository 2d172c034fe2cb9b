//! Leases of ports, as `hive/src/supervisor/leases.rs` and `mending.rs` keep them.

use std::{collections::BTreeMap, time::Duration};

use rbee_hive::decide::mend::{KnownWorker, Mend, Registered, differences, reason_to_remove};
use rbee_schema::{PortLease, WorkerName};

use super::state::{Event, Supervisor};
use crate::{
    broker::{Answer, Op},
    network::{Away, Connection},
    node::cell::{Cell, Claimed, Found},
    words::Body,
};

/// Time after which the release of a lease is given up.
const RELEASE_LIMIT: Duration = Duration::from_secs(60);

/// Pause between two attempts.
const RELEASE_PAUSE: Duration = Duration::from_secs(1);

impl Supervisor {
    pub(super) fn cell(&self, port: u16) -> Cell {
        let time_to_live = Some(self.site.settings.hive.timers.port_lease);
        Cell::new(&self.connection, "ports", &format!("{}.{port}", self.machine.host), time_to_live)
    }

    pub(super) fn release_port(&mut self, name: &WorkerName, port: u16) {
        let run = self.workers.get(name).and_then(|managed| managed.run.as_ref());
        let revision = run.and_then(|run| run.revision).unwrap_or(0);
        self.release_lease(name, port, revision, true);
    }

    /// Releases a lease. With `frees`, the port is free afterwards.
    pub(super) fn release_lease(&mut self, name: &WorkerName, port: u16, revision: u64, frees: bool) {
        let lease = self.workers.get(name).map_or_else(|| self.lease_for(name), |managed| managed.lease.clone());
        let (cell, mailbox, worker) = (self.cell(port), self.mailbox.clone(), name.clone());
        let process = self.process.clone();
        self.process.spawn(async move {
            let (lease, limit) = (Body::Lease(lease.into()), process.now() + RELEASE_LIMIT);
            let revision = loop {
                match cell.release(&lease, revision).await {
                    Ok(revision) => break revision,
                    Err(Away) if process.now() < limit => process.sleep(RELEASE_PAUSE).await,
                    Err(Away) => break None,
                }
            };
            mailbox.put(Event::Released { port, worker, revision, frees });
        });
    }

    pub(super) fn released(&mut self, port: u16, worker: &WorkerName, revision: Option<u64>, frees: bool) {
        if frees {
            self.book.give_back(port, worker);
        }
        if let Some(revision) = revision {
            self.book.note_revision(port, revision);
        }
    }

    pub(super) fn renew_leases(&mut self) {
        let held: Vec<_> = self
            .workers
            .values()
            .filter_map(|managed| {
                let run = managed.run.as_ref()?;
                Some((managed.lease.clone(), run.port, run.revision.unwrap_or(0)))
            })
            .collect();
        for (lease, port, revision) in held {
            self.renew(lease, port, revision);
        }
    }

    fn renew(&self, lease: PortLease, port: u16, revision: u64) {
        let (cell, mailbox) = (self.cell(port), self.mailbox.clone());
        self.process.spawn(async move {
            if let Ok(Claimed::Ours(revision)) = cell.claim(Body::Lease(lease.clone().into()), revision).await {
                mailbox.put(Event::Renewed { lease, port, revision });
            }
        });
    }

    pub(super) fn renewed(&mut self, lease: &PortLease, port: u16, revision: u64) {
        let managed = self.workers.get_mut(&lease.worker);
        let run = managed.and_then(|managed| managed.run.as_mut()).filter(|run| run.port == port);
        match run {
            Some(run) if run.revision.is_none_or(|held| held < revision) => run.revision = Some(revision),
            Some(_) => {}
            // It was released meanwhile, and the renewal has claimed it again.
            None => self.release_foreign(lease.clone(), port),
        }
    }

    /// Releases a lease of this hive that no worker has.
    fn release_foreign(&self, lease: PortLease, port: u16) {
        let (cell, mailbox) = (self.cell(port), self.mailbox.clone());
        self.process.spawn(async move {
            let worker = lease.worker.clone();
            let revision = cell.release(&Body::Lease(lease.into()), 0).await.ok().flatten();
            mailbox.put(Event::Released { port, worker, revision, frees: false });
        });
    }

    /// Handles a change of the lease of a port of this machine.
    pub(super) fn lease_changed(&mut self, port: u16, lease: Option<PortLease>) {
        match lease {
            Some(lease) if lease.hive == self.machine.hive => {
                if !self.book.is_of(port, &lease.worker) {
                    self.inspect_lease(port);
                }
            }
            Some(lease) => drop(self.book.leased_by(port, lease.hive)),
            None => {
                self.book.released_by_other(port);
                if let Some(worker) = self.book.worker_of(port).cloned() {
                    self.claim_again(&worker);
                }
            }
        }
    }

    fn claim_again(&self, worker: &WorkerName) {
        let Some(managed) = self.workers.get(worker) else { return };
        if let Some(run) = &managed.run {
            self.renew(managed.lease.clone(), run.port, 0);
        }
    }

    /// Reads a lease that may belong to nobody.
    fn inspect_lease(&self, port: u16) {
        let (cell, mailbox) = (self.cell(port), self.mailbox.clone());
        self.process.spawn(async move {
            let found = match cell.read().await {
                Ok(Found::Held(Body::Lease(lease), revision)) => Some(((*lease).clone(), revision)),
                Ok(_) | Err(Away) => None,
            };
            mailbox.put(Event::LeaseFound { port, found });
        });
    }

    pub(super) fn lease_found(&self, port: u16, found: Option<(PortLease, u64)>) {
        let Some((lease, revision)) = found else { return };
        let is_ours = self.book.worker_of(port).is_some();
        if reason_to_remove(Some(&lease), true, &self.machine.hive, is_ours).is_none() {
            return;
        }
        let (cell, mailbox) = (self.cell(port), self.mailbox.clone());
        self.process.spawn(async move {
            if let Ok(Some(revision)) = cell.delete(revision).await {
                let worker = lease.worker;
                mailbox.put(Event::Released { port, worker, revision: Some(revision), frees: false });
            }
        });
    }

    /// Reads the registries, to compare them with what the hive has.
    pub(super) fn compare_with_registries(&self) {
        let (connection, mailbox) = (self.connection.clone(), self.mailbox.clone());
        let (leases, records) = (format!("ports.{}.", self.machine.host), format!("workers.{}.", self.machine.hive));
        self.process.spawn(async move {
            let mut registered = Registered::default();
            let Ok(found) = all(&connection, "ports", &leases).await else { return };
            for (key, body) in found {
                if let (Ok(port), Body::Lease(lease)) = (key.parse(), body) {
                    registered.leases.insert(port, Some((*lease).clone()));
                }
            }
            let Ok(found) = all(&connection, "workers", &records).await else { return };
            for (key, body) in found {
                if let (Ok(worker), Body::Worker(record)) = (key.parse(), body) {
                    registered.records.insert(worker, (*record).clone());
                }
            }
            mailbox.put(Event::Registered(registered));
        });
    }

    pub(super) fn mend(&mut self, registered: &Registered) {
        let known = |managed: &super::state::Managed| KnownWorker {
            port: managed.run.as_ref().map(|run| run.port),
            record: managed.published.clone(),
        };
        let workers: BTreeMap<WorkerName, KnownWorker> =
            self.workers.iter().map(|(name, managed)| (name.clone(), known(managed))).collect();
        for mend in differences(&self.machine.hive, &workers, registered) {
            match mend {
                Mend::ClaimLease(worker) => self.claim_again(&worker),
                Mend::InspectLease(port) => self.inspect_lease(port),
                Mend::WriteRecord(worker) => self.write_record(&worker),
                Mend::InspectRecord(worker) => self.mailbox.put(Event::RecordFound(worker)),
            }
        }
    }

    pub(super) fn write_record(&mut self, worker: &WorkerName) {
        if let Some(managed) = self.workers.get_mut(worker) {
            managed.published = None;
            self.publish_record(worker);
        }
    }
}

/// Documents of the keys with this prefix, by the rest of the key.
pub(super) async fn all(connection: &Connection, bucket: &str, prefix: &str) -> Result<Vec<(String, Body)>, Away> {
    let (stream, filter) = (bucket.into(), format!("{prefix}*").into());
    match connection.request(|request| Op::Read { stream, filter, from: 1, request }).await? {
        Answer::Messages(messages) => Ok(messages
            .into_iter()
            .filter_map(|message| Some((message.subject.strip_prefix(prefix)?.to_owned(), message.body?)))
            .collect()),
        _ => Err(Away),
    }
}
