//! Streams and buckets on the server, brought to the state that this version needs.

use rbee_nats::{Bus, BusLimits, Plan};
use tracing::{debug, info};

use crate::error::CliError;

/// Creates missing streams and buckets and updates existing ones. Only a queen passes limits; without them existing streams
/// keep theirs.
///
/// # Errors
/// The server refuses a change, or does not answer.
pub(crate) async fn prepare_streams(bus: &Bus, limits: Option<&BusLimits>) -> Result<(), CliError> {
    let plan = match limits {
        Some(limits) => Plan::with_limits(bus, limits).await?,
        None => Plan::compute(bus).await?,
    };
    if !plan.changes.is_empty() {
        plan.apply(bus).await?;
        info!(changes = plan.changes.len(), "created or updated streams and buckets");
        debug!(%plan, "changes of streams and buckets");
    }
    Ok(())
}
