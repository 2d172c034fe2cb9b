//! Leases of ports: released after an exit, renewed while a worker runs, adopted after a restart, reclaimed when they leaked.

use rbee_nats::{BusError, ClaimError, PortClaim, Registry};
use rbee_schema::{PortEvent, PortLease, WorkerName};
use tracing::warn;

use super::{
    managed::RunningProcess,
    report::{PortUse, Release, Report},
    state::Supervisor,
};
use crate::metrics;

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

    /// Reads a lease of this hive that no worker has: the notice of it may be older than its release.
    pub(super) fn check_lease(&mut self, key: String, port: u16, lease: PortLease) {
        let leases = Registry::ports(&self.hive.bus);
        self.tasks.spawn(async move {
            match leases.get(&key).await {
                Ok(Some(found)) if found == lease => Report::LeaseFound { port, lease },
                Ok(_) => Report::Done,
                Err(error) => {
                    warn!(port, %error, "failed to read a lease that may have leaked; it will expire");
                    Report::Done
                }
            }
        });
    }

    /// Releases a leaked lease: one of this hive that no worker has.
    pub(super) fn reclaim(&mut self, port: u16, lease: PortLease) {
        self.publish_reclaimed(port, &lease.worker);
        self.release_lease(PortClaim { port, revision: 0 }, lease, PortUse::Unchanged);
    }

    pub(super) fn publish_reclaimed(&self, port: u16, worker: &WorkerName) {
        warn!(port, %worker, "a lease of this hive belongs to no worker; releasing it");
        let in_use = self.ports.book.in_use();
        let why = "no worker of that name has it".to_owned();
        metrics::port_reclaimed();
        self.hive.publish_port(port, PortEvent::Reclaimed { worker: worker.clone(), in_use, why });
    }

    pub(super) fn renew_leases(&mut self) {
        let claim = |run: &RunningProcess| run.claim;
        let held: Vec<_> = self
            .workers
            .values()
            .filter_map(|managed| Some((managed.run.as_ref().and_then(claim)?, managed.lease.clone())))
            .collect();
        for (claim, lease) in held {
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
    }

    pub(super) fn lease_renewed(&mut self, lease: PortLease, renewed: PortClaim) {
        let run = self.workers.get_mut(&lease.worker).and_then(|managed| managed.run.as_mut());
        let held = run.and_then(|run| run.claim.as_mut());
        match held.filter(|held| held.port == renewed.port) {
            Some(held) if held.revision < renewed.revision => *held = renewed,
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
                self.publish_reclaimed(port, &lease.worker);
                let revision = self.ports.release(PortClaim { port, revision: 0 }, lease).await;
                released += u32::from(revision.is_some());
            }
        }
        Ok(released)
    }
}
