//! Handles and settings that every job of a worker uses.

use rbee_nats::{Bus, JobClock, Outbox};
use rbee_schema::WorkerSettings;
use tokio_util::sync::CancellationToken;

use crate::{blocked::BlockedJobs, report::Identity};

/// Handles and settings that every job of a worker uses. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) bus: Bus,
    /// The clock by which deadlines of jobs count.
    pub(crate) clock: JobClock,
    pub(crate) outbox: Outbox,
    pub(crate) identity: Identity,
    pub(crate) settings: WorkerSettings,
    pub(crate) blocked: BlockedJobs,
    /// Cancelled when this process must end now: running jobs pause and return to the queue.
    pub(crate) stop: CancellationToken,
}
