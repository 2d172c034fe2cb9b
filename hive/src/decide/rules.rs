//! The settings by which a hive decides.

use super::{bounds::Bounds, timers::Timers};

/// Timers and bounds of a hive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Timeouts and intervals.
    pub timers: Timers,
    /// Counts and sizes above which the hive acts.
    pub bounds: Bounds,
}
