//! The lease of the leading queen: one key with a time to live, taken and renewed by compare-and-set.

use std::time::Duration;

use rbee_schema::LeaderRecord;

use crate::{
    Bus, BusError,
    cell::{Cell, Found},
};

/// Key of the lease.
const KEY: &str = "leader";

/// Lease of the leadership in a namespace.
#[derive(Debug, Clone)]
pub struct LeaderLease {
    bus: Bus,
    time_to_live: Duration,
}

impl LeaderLease {
    /// Lease of this namespace. It expires unless it is renewed within `time_to_live`, which is in whole seconds.
    pub fn new(bus: &Bus, time_to_live: Duration) -> Self {
        Self { bus: bus.clone(), time_to_live }
    }

    /// Takes the lease if it is free. Returns the revision of the write, which is the term and is needed to renew. `None` if
    /// another queen holds the lease or was faster.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn take(&self, record: &LeaderRecord) -> Result<Option<u64>, BusError> {
        match self.cell().read::<LeaderRecord>().await? {
            Found::Held(..) => Ok(None),
            Found::Free(revision) => self.cell().write(record, revision).await,
        }
    }

    /// Takes over the lease of a holder that is gone, if the lease still has this revision. Returns the term as
    /// [`LeaderLease::take`] does. `None` if the holder has renewed the lease, or another queen was faster.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn take_over(&self, record: &LeaderRecord, revision: u64) -> Result<Option<u64>, BusError> {
        self.cell().write(record, revision).await
    }

    /// Renews the lease with this revision. Returns the next revision, or `None` if this queen no longer holds the lease.
    ///
    /// # Errors
    /// The server does not answer. The lease may be renewed or not.
    pub async fn renew(&self, record: &LeaderRecord, revision: u64) -> Result<Option<u64>, BusError> {
        if let Some(revision) = self.cell().write(record, revision).await? {
            return Ok(Some(revision));
        }
        // The previous renewal may have been stored although its confirmation was lost.
        match self.cell().read::<LeaderRecord>().await? {
            Found::Held(found, revision) if found == *record => self.cell().write(record, revision).await,
            Found::Held(..) | Found::Free(_) => Ok(None),
        }
    }

    /// Releases the lease, so that another queen may take it at once.
    ///
    /// # Errors
    /// The server does not answer. The lease expires.
    pub async fn resign(&self, revision: u64) -> Result<(), BusError> {
        self.cell().delete(revision).await.map(drop)
    }

    fn cell(&self) -> Cell<'_> {
        Cell::new(&self.bus, "queen", KEY.to_owned(), self.time_to_live)
    }
}
