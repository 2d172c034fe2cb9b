//! The times that one run of a fault took.

use std::time::{Duration, SystemTime};

/// Durations of one run. The server that stores the events runs on this machine, so both clocks are the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measured {
    /// Time from the injection to the event that reports it.
    pub detected: Option<Duration>,
    /// Time from the injection until the service works again.
    pub recovered: Option<Duration>,
    /// Time from the removal of the cause until everything is as before.
    pub healed: Option<Duration>,
}

impl Measured {
    /// A run in which nothing can be measured.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// A fault that is detected, and from which the fleet recovers.
    pub fn between(injected: SystemTime, detected: SystemTime, recovered: SystemTime) -> Self {
        Self { detected: Some(since(injected, detected)), ..Self::recovery(injected, recovered) }
    }

    /// A fault that is detected, and after which nothing comes back.
    pub fn detection(injected: SystemTime, detected: SystemTime) -> Self {
        Self { detected: Some(since(injected, detected)), ..Self::default() }
    }

    /// A fault that no event reports, and from which the fleet recovers.
    pub fn recovery(injected: SystemTime, recovered: SystemTime) -> Self {
        Self { recovered: Some(since(injected, recovered)), ..Self::default() }
    }

    /// Adds the time from the removal of the cause until everything is as before.
    pub fn with_healing(self, cause_removed: SystemTime, healed: SystemTime) -> Self {
        Self { healed: Some(since(cause_removed, healed)), ..self }
    }
}

/// Zero where the clock was set back in between.
fn since(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}
