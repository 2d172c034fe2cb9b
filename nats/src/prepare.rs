//! Streams and buckets on the server, brought to what this version needs, in sizes for which the server has room.

use tracing::{debug, info, warn};

use crate::{Bus, BusLimits, Plan, PlanError};

/// Number of plans that are made and applied. The second one finds what another process has created meanwhile with other
/// limits; a third one is for two of them.
const PLANS: u32 = 3;

/// Treatment of the limits of streams that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExistingStreams {
    /// They keep their limits. Only missing streams get the given ones.
    KeepLimits,
    /// They get the given limits.
    SetLimits,
}

/// Creates missing streams and buckets and updates existing ones.
///
/// A server reserves the maximum sizes of its streams. If it has no room for them, all sizes are halved until they take at most
/// half of the room. Returns the limits with these sizes.
///
/// # Errors
/// The server refuses a change, or does not answer.
pub async fn prepare_streams(bus: &Bus, limits: &BusLimits, existing: ExistingStreams) -> Result<BusLimits, PlanError> {
    let mut halvings = 0;
    loop {
        match bring(bus, &limits.halved(halvings), existing).await {
            Err(error) if error.is_short_of_space() && limits.halved(halvings + 1) != limits.halved(halvings) => {
                halvings += 1;
            }
            Ok(()) if halvings > 0 => break,
            ended => return ended.map(|()| limits.clone()),
        }
    }
    // Half of the room is for jobs, registries and the rest of the machine.
    let reduced = limits.halved(halvings + 1);
    bring(bus, &reduced, existing).await?;
    warn!(
        bus_limits = %reduced,
        "the server has no room for the maximum sizes of the streams, so they are reduced; free disk space, or set sizes with \
         --bus-limits ([bus] in the configuration file)"
    );
    Ok(reduced)
}

/// Plans and applies until nothing is to be changed.
async fn bring(bus: &Bus, limits: &BusLimits, existing: ExistingStreams) -> Result<(), PlanError> {
    for _ in 0..PLANS {
        let plan = match existing {
            ExistingStreams::KeepLimits => Plan::new_streams_with(bus, limits).await?,
            ExistingStreams::SetLimits => Plan::with_limits(bus, limits).await?,
        };
        if plan.changes.is_empty() {
            break;
        }
        plan.apply(bus).await?;
        info!(changes = plan.changes.len(), "created or updated streams and buckets");
        debug!(%plan, "changes of streams and buckets");
    }
    Ok(())
}
