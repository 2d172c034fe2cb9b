//! Port leases: one key for each port of a machine, claimed by one compare-and-set.
//!
//! The claimer names the key's last revision (0 for none). Who loses the race is refused by the server and learns who
//! won.

use std::time::Duration;

use rbee_schema::{HostName, PortLease};

use crate::{
    Bus, BusError,
    cell::{Cell, Found},
};

/// The port leases of one machine.
#[derive(Debug, Clone)]
pub struct PortLeases {
    bus: Bus,
    host: HostName,
    time_to_live: Duration,
}

/// A lease that is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortClaim {
    /// The port.
    pub port: u16,
    /// The revision of its key; who renews or releases names it.
    pub revision: u64,
}

/// A port that was not claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Somebody holds it.
    #[error("port is leased by hive {} for worker {}", .0.hive, .0.worker)]
    Held(PortLease),
    /// The server did not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl PortLeases {
    /// The leases of `host`, which lapse after `time_to_live`, whole seconds.
    pub fn new(bus: &Bus, host: &HostName, time_to_live: Duration) -> Self {
        Self { bus: bus.clone(), host: host.clone(), time_to_live }
    }

    /// Claims a port. `revision` is what we know of its key: that of its release, or 0. One round trip where that is
    /// right, three where it is not.
    ///
    /// # Errors
    /// When somebody holds it, or the server does not answer.
    pub async fn claim(&self, port: u16, lease: &PortLease, revision: u64) -> Result<PortClaim, ClaimError> {
        if let Some(claim) = self.write(port, lease, revision).await? {
            return Ok(claim);
        }
        match self.cell(port).look().await? {
            Found::Free(revision) => match self.write(port, lease, revision).await? {
                Some(claim) => Ok(claim),
                None => Err(BusError::new(format!("claim port {port}"), "others claim it at the same time").into()),
            },
            Found::Held(lease, _) => Err(ClaimError::Held(lease)),
        }
    }

    /// Takes over the lease of a worker that an earlier run of its hive has started, or claims it anew where it lapsed.
    ///
    /// # Errors
    /// When somebody else holds it, or the server does not answer.
    pub async fn adopt(&self, port: u16, lease: &PortLease) -> Result<PortClaim, ClaimError> {
        let revision = match self.cell(port).look::<PortLease>().await? {
            Found::Free(revision) => revision,
            Found::Held(found, revision) if found.hive == lease.hive && found.worker == lease.worker => revision,
            Found::Held(found, _) => return Err(ClaimError::Held(found)),
        };
        let claim = self.write(port, lease, revision).await?;
        claim.ok_or_else(|| BusError::new(format!("adopt the lease of port {port}"), "it changes all the time").into())
    }

    /// Renews a lease; to be done several times within its time to live.
    ///
    /// # Errors
    /// When it is no longer ours, or the server does not answer.
    pub async fn renew(&self, claim: PortClaim, lease: &PortLease) -> Result<PortClaim, BusError> {
        if let Some(renewed) = self.write(claim.port, lease, claim.revision).await? {
            return Ok(renewed);
        }
        // The last renewal may have been stored and its word lost, or the lease has lapsed while the bus was away.
        let doing = || format!("renew the lease of port {}", claim.port);
        let revision = match self.cell(claim.port).look::<PortLease>().await? {
            Found::Held(found, revision) if found == *lease => revision,
            Found::Free(revision) => revision,
            Found::Held(found, _) => return Err(BusError::new(doing(), ClaimError::Held(found))),
        };
        let renewed = self.write(claim.port, lease, revision).await?;
        renewed.ok_or_else(|| BusError::new(doing(), "it changes all the time"))
    }

    /// Gives a port back. Returns the revision with which it can be claimed again at once.
    ///
    /// # Errors
    /// When it is no longer ours, or the server does not answer.
    pub async fn release(&self, claim: PortClaim, lease: &PortLease) -> Result<u64, BusError> {
        if let Some(revision) = self.cell(claim.port).erase(claim.revision).await? {
            return Ok(revision);
        }
        let doing = || format!("release port {}", claim.port);
        // A renewal may have overtaken us.
        match self.cell(claim.port).look::<PortLease>().await? {
            Found::Held(found, revision) if found == *lease => {
                let released = self.cell(claim.port).erase(revision).await?;
                released.ok_or_else(|| BusError::new(doing(), "it changes all the time"))
            }
            Found::Held(found, _) => Err(BusError::new(doing(), ClaimError::Held(found))),
            Found::Free(revision) => Ok(revision),
        }
    }

    fn cell(&self, port: u16) -> Cell<'_> {
        Cell::new(&self.bus, "ports", format!("{}.{port}", self.host), self.time_to_live)
    }

    async fn write(&self, port: u16, lease: &PortLease, revision: u64) -> Result<Option<PortClaim>, BusError> {
        let written = self.cell(port).write(lease, revision).await?;
        Ok(written.map(|revision| PortClaim { port, revision }))
    }
}
