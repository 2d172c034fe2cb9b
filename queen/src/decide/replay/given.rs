//! Material of a replay: recorded events, and conditions that no event tells.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime},
};

use rbee_schema::{Event, ModelName, ModelSpec};

use crate::decide::timers::Timers;

/// Recorded event.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Time at which the server stored the event.
    pub at: SystemTime,
    /// Time at which the job of the event was queued, if the event tells it.
    pub queued: Option<SystemTime>,
    /// The event.
    pub event: Event,
}

/// Conditions of a replay that no event tells.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// Timeouts and intervals of the queen.
    pub timers: Timers,
    /// Any instant: that of the first event.
    pub start: Instant,
    /// Declarations of models of which no event tells: those of today, as far as they are known.
    pub declared: BTreeMap<ModelName, ModelSpec>,
    /// Time from which on decisions are compared. Before it, the recorded ones are followed.
    pub from: Option<SystemTime>,
}
