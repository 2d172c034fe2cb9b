//! Port leases: one key for each port of a machine, claimed by compare-and-set.
//!
//! A claim names the last revision of the key (0 for none). The server refuses the loser of a race, which then reads the lease
//! of the winner.

use std::time::Duration;

use rbee_schema::{HostName, PortLease};

use crate::{
    Bus, BusError,
    cell::{Cell, Found, RawDocument},
};

/// Port leases of one machine.
#[derive(Debug, Clone)]
pub struct PortLeases {
    bus: Bus,
    host: HostName,
    time_to_live: Duration,
}

/// Lease that this hive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortClaim {
    /// Port of the lease.
    pub port: u16,
    /// Revision of the key. Renewing and releasing name it.
    pub revision: u64,
}

/// Content of a port's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLease {
    /// The lease. `None` if the content is no lease.
    pub lease: Option<PortLease>,
    /// Revision of the key.
    pub revision: u64,
    /// True if the lease has a time to live. Every hive writes one.
    pub expires: bool,
}

/// Failure to claim a port.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another worker holds the port.
    #[error("port is leased by hive {} for worker {}", .0.hive, .0.worker)]
    Held(PortLease),
    /// The server did not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl PortLeases {
    /// Leases of `host`. They expire after `time_to_live`, which is in whole seconds.
    pub fn new(bus: &Bus, host: &HostName, time_to_live: Duration) -> Self {
        Self { bus: bus.clone(), host: host.clone(), time_to_live }
    }

    /// Claims a port. `revision` is the last known revision of its key: that of its release, or 0. Takes one round trip if the
    /// revision is current, else three.
    ///
    /// # Errors
    /// Another worker holds the port, or the server does not answer.
    pub async fn claim(&self, port: u16, lease: &PortLease, revision: u64) -> Result<PortClaim, ClaimError> {
        if let Some(claim) = self.write(port, lease, revision).await? {
            return Ok(claim);
        }
        match self.cell(port).read().await? {
            Found::Free(revision) => match self.write(port, lease, revision).await? {
                Some(claim) => Ok(claim),
                None => {
                    Err(BusError::new(format!("claim port {port}"), "another hive is claiming it at the same time")
                        .into())
                }
            },
            Found::Held(lease, _) => Err(ClaimError::Held(lease)),
        }
    }

    /// Takes over the lease of a worker that an earlier run of this hive started, or claims the port again if the lease expired.
    ///
    /// # Errors
    /// Another worker holds the port, or the server does not answer.
    pub async fn adopt(&self, port: u16, lease: &PortLease) -> Result<PortClaim, ClaimError> {
        let revision = match self.cell(port).read::<PortLease>().await? {
            Found::Free(revision) => revision,
            Found::Held(found, revision) if found.hive == lease.hive && found.worker == lease.worker => revision,
            Found::Held(found, _) => return Err(ClaimError::Held(found)),
        };
        let claim = self.write(port, lease, revision).await?;
        claim.ok_or_else(|| {
            BusError::new(format!("adopt the lease of port {port}"), "its lease is changing concurrently").into()
        })
    }

    /// Renews a lease. Call it several times within the time to live.
    ///
    /// # Errors
    /// Another worker holds the port, or the server does not answer.
    pub async fn renew(&self, claim: PortClaim, lease: &PortLease) -> Result<PortClaim, BusError> {
        if let Some(renewed) = self.write(claim.port, lease, claim.revision).await? {
            return Ok(renewed);
        }
        // The last renewal may have been stored although its confirmation was lost, or the lease expired while the bus was
        // unreachable.
        let doing = || format!("renew the lease of port {}", claim.port);
        let revision = match self.cell(claim.port).read::<PortLease>().await? {
            Found::Held(found, revision) if found == *lease => revision,
            Found::Free(revision) => revision,
            Found::Held(found, _) => return Err(BusError::new(doing(), ClaimError::Held(found))),
        };
        let renewed = self.write(claim.port, lease, revision).await?;
        renewed.ok_or_else(|| BusError::new(doing(), "its lease is changing concurrently"))
    }

    /// Releases a port. Returns the revision with which it can be claimed again at once.
    ///
    /// # Errors
    /// Another worker holds the port, or the server does not answer.
    pub async fn release(&self, claim: PortClaim, lease: &PortLease) -> Result<u64, BusError> {
        if let Some(revision) = self.cell(claim.port).delete(claim.revision).await? {
            return Ok(revision);
        }
        let doing = || format!("release port {}", claim.port);
        // A concurrent renewal may have changed the revision.
        match self.cell(claim.port).read::<PortLease>().await? {
            Found::Held(found, revision) if found == *lease => {
                let released = self.cell(claim.port).delete(revision).await?;
                released.ok_or_else(|| BusError::new(doing(), "its lease is changing concurrently"))
            }
            Found::Held(found, _) => Err(BusError::new(doing(), ClaimError::Held(found))),
            Found::Free(revision) => Ok(revision),
        }
    }

    /// Content of a port's key, whoever wrote it. `None` if the port is free.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn inspect(&self, port: u16) -> Result<Option<FoundLease>, BusError> {
        match self.cell(port).read_raw().await? {
            Found::Free(_) => Ok(None),
            Found::Held(RawDocument { body, expires }, revision) => {
                Ok(Some(FoundLease { lease: serde_json::from_slice(&body).ok(), revision, expires }))
            }
        }
    }

    /// Removes whatever is in a port's key, if the key still has this revision.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn clear(&self, port: u16, revision: u64) -> Result<Option<u64>, BusError> {
        self.cell(port).delete(revision).await
    }

    fn cell(&self, port: u16) -> Cell<'_> {
        Cell::new(&self.bus, "ports", format!("{}.{port}", self.host), self.time_to_live)
    }

    async fn write(&self, port: u16, lease: &PortLease, revision: u64) -> Result<Option<PortClaim>, BusError> {
        let written = self.cell(port).write(lease, revision).await?;
        Ok(written.map(|revision| PortClaim { port, revision }))
    }
}
