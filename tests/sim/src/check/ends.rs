//! Ends of workers, as they really were.

use crate::words::JobKey;

/// The true reason for the end of a worker process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEnd {
    /// A job ended it.
    Poisoned(JobKey),
    /// It crashed by itself: any of its jobs may be the cause.
    Crashed,
    /// Its engine hung, so its hive killed it.
    Hung,
    /// Somebody else killed it.
    Killed,
    /// It exited by itself.
    Exited,
}

impl WorkerEnd {
    /// True if jobs may be blamed for this end.
    pub fn may_be_blamed(&self) -> bool {
        match self {
            Self::Poisoned(_) | Self::Crashed | Self::Hung => true,
            Self::Killed | Self::Exited => false,
        }
    }
}
