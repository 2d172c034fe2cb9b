//! Strategies for placing a model's workers on hives.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Strategy for placing the workers of a model on hives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PlacementStrategy {
    /// Distributes the workers over as many hives as possible, so that the loss of one hive costs least.
    #[default]
    Spread,
    /// Puts the workers on as few hives as possible, so that other hives stay free for large models.
    Pack,
}

impl PlacementStrategy {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
