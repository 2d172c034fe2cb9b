//! What a hive decides by.

use super::{bounds::Bounds, timers::Timers};

/// How long it waits for what, and what it bears.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// How long it waits for what.
    pub timers: Timers,
    /// What it bears.
    pub bounds: Bounds,
}
