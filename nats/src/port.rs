//! Port leases: one key for each port of a machine, claimed by one compare-and-set.
//!
//! The claimer names the key's last revision (0 for none). Who loses the race is refused by the server and learns who
//! won. The written time to live is why this does not use the client library's `create`: over the marker of an expired
//! key that one drops it, and the lease would live for ever.

use std::time::Duration;

use async_nats::jetstream::{message::PublishMessage, stream::LastRawMessageErrorKind};
use rbee_schema::{HostName, PortLease};

use crate::{
    Bus, BusError,
    bus::{header, is_stale, json},
};

/// A lease outlives its hive's restart and the grace time of its workers (10 min), and never a vanished hive.
const TIME_TO_LIVE: Duration = Duration::from_secs(11 * 60);

/// The notice of a released lease lapses soon: the key is then as if it had never been.
const MARKER_TIME_TO_LIVE: Duration = Duration::from_secs(1);

/// The port leases of one machine.
#[derive(Debug, Clone)]
pub struct PortLeases {
    bus: Bus,
    host: HostName,
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
    /// The leases of `host`.
    pub fn of(bus: &Bus, host: &HostName) -> Self {
        Self { bus: bus.clone(), host: host.clone() }
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
        match self.look(port).await? {
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
        let revision = match self.look(port).await? {
            Found::Free(revision) => revision,
            Found::Held(found, revision) if found.hive == lease.hive && found.worker == lease.worker => revision,
            Found::Held(found, _) => return Err(ClaimError::Held(found)),
        };
        let claim = self.write(port, lease, revision).await?;
        claim.ok_or_else(|| BusError::new(format!("adopt the lease of port {port}"), "it changes all the time").into())
    }

    /// Renews a lease; to be done every minute.
    ///
    /// # Errors
    /// When it is no longer ours, or the server does not answer.
    pub async fn renew(&self, claim: PortClaim, lease: &PortLease) -> Result<PortClaim, BusError> {
        if let Some(renewed) = self.write(claim.port, lease, claim.revision).await? {
            return Ok(renewed);
        }
        // The last renewal may have been stored and its word lost, or the lease has lapsed while the bus was away.
        let doing = || format!("renew the lease of port {}", claim.port);
        let revision = match self.look(claim.port).await? {
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
        if let Some(revision) = self.erase(claim).await? {
            return Ok(revision);
        }
        let doing = || format!("release port {}", claim.port);
        // A renewal may have overtaken us.
        match self.look(claim.port).await? {
            Found::Held(found, revision) if found == *lease => {
                let released = self.erase(PortClaim { revision, ..claim }).await?;
                released.ok_or_else(|| BusError::new(doing(), "it changes all the time"))
            }
            Found::Held(found, _) => Err(BusError::new(doing(), ClaimError::Held(found))),
            Found::Free(revision) => Ok(revision),
        }
    }

    async fn erase(&self, claim: PortClaim) -> Result<Option<u64>, BusError> {
        let message = PublishMessage::build()
            .header("KV-Operation", "PURGE")
            .header("Nats-Rollup", "sub")
            .ttl(MARKER_TIME_TO_LIVE)
            .expected_last_subject_sequence(claim.revision);
        match self.bus.store(self.subject(claim.port), message).await {
            Ok(stored) => Ok(Some(stored.sequence)),
            Err(error) if is_stale(&error) => Ok(None),
            Err(error) => Err(BusError::new(format!("release port {}", claim.port), error)),
        }
    }

    fn subject(&self, port: u16) -> String {
        format!("$KV.{}.{}.{port}", self.bus.namespace().resource("ports"), self.host)
    }

    async fn write(&self, port: u16, lease: &PortLease, revision: u64) -> Result<Option<PortClaim>, BusError> {
        let message =
            PublishMessage::build().payload(json(lease)).ttl(TIME_TO_LIVE).expected_last_subject_sequence(revision);
        match self.bus.store(self.subject(port), message).await {
            Ok(stored) => Ok(Some(PortClaim { port, revision: stored.sequence })),
            Err(error) if is_stale(&error) => Ok(None),
            Err(error) => Err(BusError::new(format!("claim port {port}"), error)),
        }
    }

    async fn look(&self, port: u16) -> Result<Found, BusError> {
        let failed = |cause: String| BusError::new(format!("look at the lease of port {port}"), cause);
        let stream = format!("KV_{}", self.bus.namespace().resource("ports"));
        let stream =
            self.bus.jetstream().get_stream_no_info(stream).await.map_err(|error| failed(error.to_string()))?;
        match stream.get_last_raw_message_by_subject(&self.subject(port)).await {
            Ok(last) if is_marker(&last.headers) => Ok(Found::Free(last.sequence)),
            Ok(last) => {
                let lease = serde_json::from_slice(&last.payload).map_err(|error| failed(error.to_string()))?;
                Ok(Found::Held(lease, last.sequence))
            }
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(Found::Free(0)),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

enum Found {
    /// Nobody holds it; the revision to claim it with.
    Free(u64),
    Held(PortLease, u64),
}

fn is_marker(headers: &async_nats::HeaderMap) -> bool {
    header(Some(headers), "KV-Operation").is_some() || header(Some(headers), "Nats-Marker-Reason").is_some()
}
