//! Deletes stored bodies that belong to no job, while this queen leads: see [`BodySweeper`].

use std::time::Duration;

use rbee_nats::{BodySweeper, Bus};
use tokio::time::sleep;
use tracing::{info, warn};

/// Sweeps without end, once in `interval`: bodies that are older than `age`.
pub(crate) async fn sweep(bus: Bus, interval: Duration, age: Duration) {
    let mut sweeper = BodySweeper::new(&bus);
    loop {
        match sweeper.sweep(age).await {
            Ok(0) => {}
            Ok(bodies) => info!(bodies, "deleted stored bodies that belonged to no job"),
            Err(error) => warn!(%error, "failed to search for stored bodies without a job; trying again"),
        }
        // Timer: interval of sweeps.
        sleep(interval).await;
    }
}
