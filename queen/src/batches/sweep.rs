//! Deletes old batches, and files that belong to no batch, while this queen leads.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use rbee_nats::{Bus, BusError, Entry};
use rbee_schema::BatchId;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::decide::timers::Timers;

/// Sweeps without end.
pub(crate) async fn sweep(bus: Bus, timers: Timers) {
    loop {
        match sweep_once(&bus, timers.batch_age, timers.orphan).await {
            Ok(0) => {}
            Ok(deleted) => info!(deleted, "deleted old batches and files of no batch"),
            Err(error) => warn!(%error, "failed to search for old batches; trying again"),
        }
        // Timer: interval of sweeps.
        sleep(timers.body_sweep).await;
    }
}

/// Deletes batches that ended longer than `age` ago, and files that were stored longer than `orphan` ago and belong to none.
async fn sweep_once(bus: &Bus, age: Duration, orphan: Duration) -> Result<u64, BusError> {
    let batches = bus.batches();
    let ended_before = bus.server_time().await?.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    let (mut deleted, mut runs, mut files) = (0, HashSet::new(), HashSet::new());
    let mut records = batches.records().watch(">").await?;
    loop {
        match records.next().await? {
            Entry::Set { key, document, stored, .. } => {
                let Ok(id) = key.parse::<BatchId>() else { continue };
                if document.state.is_final() && stored < ended_before {
                    batches.delete(&id, &document).await?;
                    deleted += 1;
                } else {
                    runs.insert(document.run);
                    files.extend([document.input, document.output]);
                }
            }
            Entry::Removed(_) | Entry::Unreadable { .. } => {}
            Entry::Synced => break,
        }
    }
    let old = batches.files().old_objects(orphan, &runs).await?;
    deleted += old.deleted;
    for name in old.names.into_iter().filter(|name| !files.contains(name)) {
        batches.files().delete(&name).await?;
        deleted += 1;
    }
    Ok(deleted)
}
