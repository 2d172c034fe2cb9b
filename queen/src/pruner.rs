//! Deletes old output of jobs while this queen leads: see [`rbee_nats::Bus::prune_output`].

use std::time::Duration;

use rbee_nats::Bus;
use tokio::time::sleep;
use tracing::{debug, warn};

/// Interval of deletions. Two requests to the server each time, and a full stream is relieved while its jobs still wait.
const INTERVAL: Duration = Duration::from_secs(5);

/// Deletes old output without end.
pub(crate) async fn prune(bus: Bus) {
    loop {
        match bus.prune_output().await {
            Ok(usage) if usage.is_nearly_full() => {
                warn!(?usage, "output of jobs in the queue nearly fills its stream; raise the limit `output_size`");
            }
            Ok(usage) if usage.deleted > 0 => debug!(?usage, "deleted old output"),
            Ok(_) => {}
            Err(error) => warn!(%error, "failed to delete old output; trying again"),
        }
        // Timer: interval of deletions.
        sleep(INTERVAL).await;
    }
}
