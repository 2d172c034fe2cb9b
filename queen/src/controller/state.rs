//! Parts of the controller's state that several of its files use.

use std::{collections::BTreeMap, time::Instant};

use rbee_schema::{Failure, ModelName};
use tokio_util::task::AbortOnDropHandle;

use crate::{decide::alert::Alerts, leader::Leadership};

/// State of a queen that leads. A follower keeps none but its [`Leadership`].
#[derive(Default)]
pub(super) struct Leading {
    pub(super) leadership: Leadership,
    /// Models that were reported as unplaceable, with the failure.
    pub(super) unplaceable: BTreeMap<ModelName, Failure>,
    pub(super) alerts: Alerts,
    /// Task that seals the trail of events.
    pub(super) sealer: Option<AbortOnDropHandle<()>>,
}

/// State of counting.
#[derive(Debug, Default)]
pub(super) struct QueueCount {
    /// Start of the last count.
    pub(super) started: Option<Instant>,
    pub(super) is_running: bool,
}
