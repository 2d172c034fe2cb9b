//! The slots of a worker: each pulls one job at a time and runs it. Step 4 of a job's path.

use std::time::Duration;

use rbee_nats::JobQueue;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{fatal::end_process_if_it_panics, job::JobRunner};

/// Pause of a slot after it failed to pull a job, so that a slot does not load a server that is away or overloaded.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs jobs until `drain` is cancelled and the last job has ended.
pub(crate) async fn serve(runner: JobRunner, queue: JobQueue, drain: CancellationToken) {
    let mut slots = JoinSet::new();
    for _ in 0..runner.shared.identity.slots {
        let slot = run_slot(runner.clone(), queue.clone(), drain.clone());
        slots.spawn(end_process_if_it_panics("run a job", slot));
    }
    while slots.join_next().await.is_some() {}
    info!("all slots are idle; the worker ends");
}

async fn run_slot(runner: JobRunner, queue: JobQueue, drain: CancellationToken) {
    while !drain.is_cancelled() {
        // A job that must run alone leaves no room for others.
        tokio::select! {
            () = runner.reporter.opened() => {}
            () = drain.cancelled() => return,
        }
        match queue.next(runner.shared.settings.batch_wait).await {
            // The job was delivered after the worker had begun to drain.
            Ok(Some(delivery)) if drain.is_cancelled() => {
                if let Err(error) = delivery.nak().await {
                    let job = &delivery.job;
                    warn!(%job, %error, "failed to return a job; it is delivered again after its redelivery timeout");
                }
            }
            Ok(Some(delivery)) => runner.run(delivery).await,
            Ok(None) => {}
            Err(error) => {
                warn!(%error, "failed to pull a job; the slot pauses for {RETRY_PAUSE:?} and retries");
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}
