//! Leases of ports: released after an exit, renewed while a worker runs, adopted after a restart, reclaimed when they leaked.

use rbee_nats::{BusError, ClaimError, FoundLease, PortClaim, Registry};
use rbee_schema::{PortEvent, PortLease, WorkerName};
use tracing::warn;

use super::{
    managed::ManagedWorker,
    report::{PortUse, Release, Report},
    state::Supervisor,
};
use crate::{decide::mend::reason_to_remove, metrics};

impl Supervisor {
    /// Releases the lease of a worker whose process has ended.
    pub(super) fn release_port(&mut self, name: &WorkerName, port: u16, why: String) {
        let Some(managed) = self.workers.get_mut(name) else { return };
        let claim = match &mut managed.run {
            Some(run) => run.claim.take(),
            // The process ended while the hive was away: the revision of its lease is unknown.
            None => Some(PortClaim { port, revision: 0 }),
        };
        let lease = managed.lease.clone();
        match claim {
            Some(claim) => self.release_lease(claim, lease, PortUse::Freed(Some(why))),
            // Another hive holds the lease of this port.
            None => self.ports.book.give_back(port, name),
        }
    }

    /// Releases a lease in a task of its own.
    pub(super) fn release_lease(&mut self, claim: PortClaim, lease: PortLease, port_use: PortUse) {
        let (port, worker) = (claim.port, lease.worker.clone());
        let released = self.ports.release(claim, lease);
        self.tasks.spawn(async move {
            let revision = released.await;
            Report::LeaseReleased(Release { port, worker, revision, port_use })
        });
    }

    pub(super) fn lease_released(&mut self, Release { port, worker, revision, port_use }: Release) {
        if let Some(revision) = revision {
            self.ports.book.note_revision(port, revision);
        }
        let PortUse::Freed(why) = port_use else { return };
        self.ports.book.give_back(port, &worker);
        if let Some(why) = why {
            let in_use = self.ports.book.in_use();
            self.hive.publish_port(port, PortEvent::Released { worker, in_use, why });
        }
    }

    /// Looks at a lease that may belong to nobody: the notice of it may be older than its release.
    pub(super) fn inspect_lease(&mut self, port: u16) {
        let leases = self.ports.leases.clone();
        self.tasks.spawn(async move {
            match leases.inspect(port).await {
                Ok(Some(found)) => Report::LeaseFound { port, found },
                Ok(None) => Report::Done,
                Err(error) => {
                    warn!(port, %error, "failed to read a lease that may belong to nobody; the next comparison reads it again");
                    Report::Done
                }
            }
        });
    }

    /// Removes a lease from the registry if it belongs to nobody.
    pub(super) fn lease_found(&mut self, port: u16, found: FoundLease) {
        let FoundLease { lease, revision, expires } = found;
        let is_ours = lease.as_ref().is_some_and(|lease| self.ports.book.is_of(port, &lease.worker));
        let Some(why) = reason_to_remove(lease.as_ref(), expires, &self.hive.config.name, is_ours) else { return };
        let worker = lease.map_or_else(|| WorkerName::from_lossy("unknown"), |lease| lease.worker);
        self.publish_reclaimed(port, &worker, why);
        let leases = self.ports.leases.clone();
        self.tasks.spawn(async move {
            match leases.clear(port, revision).await {
                Ok(Some(revision)) => Report::LeaseReleased(Release {
                    port,
                    worker,
                    revision: Some(revision),
                    port_use: PortUse::Unchanged,
                }),
                Ok(None) => Report::Done,
                Err(error) => {
                    warn!(port, %error, "failed to remove a lease that belongs to nobody; the next comparison finds it again");
                    Report::Done
                }
            }
        });
    }

    /// Releases a leaked lease: one of this hive that no worker has.
    fn reclaim(&mut self, port: u16, lease: PortLease) {
        self.publish_reclaimed(port, &lease.worker, "no worker of that name has it".to_owned());
        self.release_lease(PortClaim { port, revision: 0 }, lease, PortUse::Unchanged);
    }

    fn publish_reclaimed(&self, port: u16, worker: &WorkerName, why: String) {
        warn!(port, %worker, why, "a lease belongs to nobody; removing it");
        let in_use = self.ports.book.in_use();
        metrics::port_reclaimed();
        self.hive.publish_port(port, PortEvent::Reclaimed { worker: worker.clone(), in_use, why });
    }

    pub(super) fn renew_leases(&mut self) {
        // A claim that was lost, because another hive had the lease, is tried again.
        let claim = |managed: &ManagedWorker| {
            let (run, port) = (managed.run.as_ref()?, managed.worker.record().port?);
            Some(run.claim.unwrap_or(PortClaim { port, revision: 0 }))
        };
        let held: Vec<_> =
            self.workers.values().filter_map(|managed| Some((claim(managed)?, managed.lease.clone()))).collect();
        for (claim, lease) in held {
            self.renew_lease(claim, lease);
        }
    }

    /// Renews the lease of a worker in a task of its own.
    pub(super) fn renew_lease(&mut self, claim: PortClaim, lease: PortLease) {
        let leases = self.ports.leases.clone();
        self.tasks.spawn(async move {
            match leases.renew(claim, &lease).await {
                Ok(claim) => Report::LeaseRenewed(lease, claim),
                Err(error) => {
                    warn!(port = claim.port, worker = %lease.worker, %error, "failed to renew a lease");
                    Report::Done
                }
            }
        });
    }

    pub(super) fn lease_renewed(&mut self, lease: PortLease, renewed: PortClaim) {
        let managed = self.workers.get_mut(&lease.worker);
        let run = managed.filter(|managed| managed.worker.record().port == Some(renewed.port));
        match run.and_then(|managed| managed.run.as_mut()) {
            Some(run) if run.claim.is_none_or(|held| held.revision < renewed.revision) => run.claim = Some(renewed),
            Some(_) => {}
            // It was released meanwhile, and the renewal has claimed it again.
            None => self.reclaim(renewed.port, lease),
        }
    }

    /// Takes over the lease of a worker that an earlier run of the hive started. `None` where another hive holds it.
    pub(super) async fn adopt_lease(&mut self, port: u16, lease: &PortLease) -> Option<PortClaim> {
        let worker = &lease.worker;
        match self.ports.leases.adopt(port, lease).await {
            Ok(claim) => Some(claim),
            Err(ClaimError::Held(other)) => {
                warn!(%worker, port, hive = %other.hive, "another hive has leased the port of a running worker");
                None
            }
            Err(ClaimError::Bus(error)) => {
                warn!(%worker, port, %error, "failed to take over the lease of a running worker; the next renewal will");
                Some(PortClaim { port, revision: 0 })
            }
        }
    }

    /// Releases the leases of this hive that no worker has, and waits for that. Returns how many were released.
    pub(super) async fn release_leaked(&mut self) -> Result<u32, BusError> {
        let mut released = 0;
        for (key, lease) in Registry::ports(&self.hive.bus).all().await? {
            let port = key.strip_prefix(&format!("{}.", self.hive.config.host)).and_then(|port| port.parse().ok());
            let Some(port) = port else { continue };
            if lease.hive == self.hive.config.name && !self.ports.book.is_of(port, &lease.worker) {
                self.publish_reclaimed(port, &lease.worker, "no worker of that name has it".to_owned());
                let revision = self.ports.release(PortClaim { port, revision: 0 }, lease).await;
                released += u32::from(revision.is_some());
            }
        }
        Ok(released)
    }
}
