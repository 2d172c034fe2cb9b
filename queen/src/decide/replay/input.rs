//! Inputs of the planner, as far as events tell them.

use std::time::SystemTime;

use rbee_schema::{Event, HiveName, JobId, SubmittedJob, Tenant};

/// Input of the planner that is rebuilt from events.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Input {
    Event(Event),
    /// A job was queued. Its first event tells when.
    JobQueued(Tenant, JobId, SubmittedJob),
    /// Hives sent their heartbeats, and one of them its last.
    LastHeartbeat,
}

/// Time in which a hive sends no heartbeats, up to its return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Silence {
    pub(super) hive: HiveName,
    pub(super) from: SystemTime,
    pub(super) until: Option<SystemTime>,
}
