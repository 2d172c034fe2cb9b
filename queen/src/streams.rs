//! Keeps the streams and buckets on the server: makes those again that were deleted.

use std::time::Duration;

use futures::StreamExt as _;
use rbee_nats::{Bus, BusError, BusLimits, ExistingStreams, Registry, prepare_streams};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::warn;

use crate::leader::Leadership;

/// Interval of checks that nothing is missing, for deletions of which no advisory arrived: the connection was lost, or the
/// server's permissions keep advisories from queens. A check is a dozen requests of a tenth of a millisecond.
const CHECK: Duration = Duration::from_secs(10);

/// Keeps the streams and buckets without end. The leader makes them; without the bucket of the lease no queen can lead, so
/// any queen does. They get the limits of that queen.
pub(crate) async fn keep(
    bus: Bus,
    limits: BusLimits,
    mut leadership: watch::Receiver<Leadership>,
) -> Result<(), BusError> {
    let mut deleted = bus.watch_deleted_streams().await?;
    // Timer: checks for deletions of which no advisory arrived.
    let mut checks = interval(CHECK);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(advisory) = deleted.next() => {
                if !bus.is_about_own_stream(&advisory) {
                    continue;
                }
                warn!(advisory = %advisory.subject, "a stream was deleted");
            }
            changed = leadership.changed() => if changed.is_err() {
                return Ok(());
            },
            _ = checks.tick() => {}
        }
        let leads = leadership.borrow_and_update().term().is_some();
        if (leads || Registry::leader(&bus).is_missing().await)
            && let Err(error) = prepare_streams(&bus, &limits, ExistingStreams::KeepLimits).await
        {
            warn!(%error, "the streams and buckets could not be brought to what this version needs; trying again");
        }
    }
}
