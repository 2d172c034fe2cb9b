//! The states of a worker. Each state has exactly the data that it needs.

use std::time::Instant;

use rbee_schema::Failure;

use super::{claims::Claims, event::Event, liveness::Liveness};
use crate::decide::timers::Timers;

/// The desired end of the worker's life.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Goal {
    Run,
    Stop { why: String },
}

/// A process that has not exited, as far as is known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) port: u16,
    pub(super) claims: Claims,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    /// The model file is fetched, a port is leased, the process is started. Messages of a process that is quicker than the
    /// notice of its start are kept.
    Requested { early: Vec<Event> },
    /// The process runs and has sent no message yet.
    Spawning { process: Process, since: Instant },
    /// The process reads the model.
    Loading { process: Process, load: Load },
    /// The worker takes jobs.
    Ready { process: Process, since: Instant, liveness: Liveness },
    /// The worker took jobs; now it sends no heartbeat, or is frozen.
    Suspect { process: Process, since: Instant, liveness: Liveness, suspected: Instant },
    /// The worker finishes its jobs and exits.
    Draining { process: Process, deadline: Instant },
    /// The process was sent a signal.
    Stopping { process: Process, stage: Stage, cause: StopCause },
    /// The worker is restarted at this time.
    Backoff { until: Instant },
    /// The worker exited too often. It is tried once more at this time.
    CrashLoop { until: Instant, failure: Failure },
    /// The worker is not started again unless a command resets it.
    Failed(Failure),
    /// The worker is gone. No event changes anything any more.
    Removed,
}

/// Progress of a load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Load {
    pub(super) since: Instant,
    /// Time of the last progress.
    pub(super) moved: Instant,
    pub(super) done_bytes: u64,
    pub(super) total_bytes: u64,
}

/// Last signal that a process was sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stage {
    /// SIGTERM. SIGKILL follows at this time.
    Terminated { kill_at: Instant },
    /// SIGKILL. A process that is still there is sent another at this time.
    Killed { first: Instant, again: Instant },
}

/// Cause of a signal.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum StopCause {
    Requested,
    NotReadyInTime(String),
    /// It has jobs and makes no progress.
    Hung(String),
    /// It sends no heartbeats, or fails its health checks.
    Unresponsive(String),
}

impl Load {
    /// Latest end of the load. While bytes are read, both the size and the time without progress limit it. What follows
    /// the last byte reports no progress, so only the size does.
    pub(super) fn deadline(&self, timers: &Timers) -> Instant {
        let limit = self.since + timers.load(self.total_bytes);
        let is_read = self.total_bytes > 0 && self.done_bytes >= self.total_bytes;
        if is_read { limit } else { limit.min(self.moved + timers.load_stall) }
    }
}
