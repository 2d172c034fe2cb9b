//! The lease of the queen who leads: one key with a time to live, taken and renewed by compare-and-set.

use std::time::Duration;

use rbee_schema::LeaderRecord;

use crate::{
    Bus, BusError,
    cell::{Cell, Found},
};

/// The key.
const KEY: &str = "leader";

/// A way to lead.
#[derive(Debug, Clone)]
pub struct LeaderLease {
    bus: Bus,
    time_to_live: Duration,
}

impl LeaderLease {
    /// The lease of this namespace: who does not renew for `time_to_live`, whole seconds, leads no longer.
    pub fn new(bus: &Bus, time_to_live: Duration) -> Self {
        Self { bus: bus.clone(), time_to_live }
    }

    /// Takes the lease where nobody has it. Returns the revision of the write: the term, and what renewing needs; `None`
    /// where somebody has it, or was faster.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn take(&self, record: &LeaderRecord) -> Result<Option<u64>, BusError> {
        match self.cell().look::<LeaderRecord>().await? {
            Found::Held(..) => Ok(None),
            Found::Free(revision) => self.cell().write(record, revision).await,
        }
    }

    /// Takes a lease over whose holder is gone: it has this revision, and she renews it no more. Returns the term as
    /// [`LeaderLease::take`] does; `None` where she has renewed it after all, or somebody else was faster.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn take_over(&self, record: &LeaderRecord, revision: u64) -> Result<Option<u64>, BusError> {
        self.cell().write(record, revision).await
    }

    /// Renews a lease that has this revision, and returns the next one; `None` where it is no longer ours.
    ///
    /// # Errors
    /// When the server does not answer: the lease may be renewed or not.
    pub async fn renew(&self, record: &LeaderRecord, revision: u64) -> Result<Option<u64>, BusError> {
        if let Some(revision) = self.cell().write(record, revision).await? {
            return Ok(Some(revision));
        }
        // The last renewal may have been stored and its word lost.
        match self.cell().look::<LeaderRecord>().await? {
            Found::Held(found, revision) if found == *record => self.cell().write(record, revision).await,
            Found::Held(..) | Found::Free(_) => Ok(None),
        }
    }

    /// Gives the lease up, so that somebody else may take it at once.
    ///
    /// # Errors
    /// When the server does not answer: the lease lapses.
    pub async fn resign(&self, revision: u64) -> Result<(), BusError> {
        self.cell().erase(revision).await.map(drop)
    }

    fn cell(&self) -> Cell<'_> {
        Cell::new(&self.bus, "queen", KEY.to_owned(), self.time_to_live)
    }
}
