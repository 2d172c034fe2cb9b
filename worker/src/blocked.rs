//! Count of jobs that the bus keeps from making progress.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// Number of jobs of this worker whose output the server does not store at present. Cheap to clone; all clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlockedJobs(Arc<AtomicU32>);

/// One blocked job, until it is dropped.
#[derive(Debug)]
pub(crate) struct BlockedJob(BlockedJobs);

impl BlockedJobs {
    /// Number of blocked jobs.
    pub(crate) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts a job as blocked.
    pub(crate) fn enter(&self) -> BlockedJob {
        self.0.fetch_add(1, Ordering::Relaxed);
        BlockedJob(self.clone())
    }
}

impl Drop for BlockedJob {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
