//! The slots of a worker: each pulls one job at a time and works it off. Step 4 of a job's path.

use std::time::Duration;

use rbee_nats::JobQueue;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::job::Desk;

/// A pause before jobs are pulled again.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves until `drain` is cancelled and every job is worked off.
pub(crate) async fn serve(desk: Desk, queue: JobQueue, drain: CancellationToken) {
    let mut slots = JoinSet::new();
    for _ in 0..desk.identity.slots {
        slots.spawn(run_slot(desk.clone(), queue.clone(), drain.clone()));
    }
    while slots.join_next().await.is_some() {}
    info!("every slot is empty");
}

async fn run_slot(desk: Desk, queue: JobQueue, drain: CancellationToken) {
    while !drain.is_cancelled() {
        match queue.next(desk.settings.batch_wait).await {
            // It came while we were told to drain.
            Ok(Some(delivery)) if drain.is_cancelled() => {
                if let Err(error) = delivery.nak().await {
                    warn!(job = %delivery.job, %error, "a job comes back only when its time is over");
                }
            }
            Ok(Some(delivery)) => desk.serve(delivery).await,
            Ok(None) => {}
            Err(error) => {
                warn!(%error, "no jobs can be pulled; trying again");
                sleep(PAUSE).await;
            }
        }
    }
}
