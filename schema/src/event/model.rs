//! Events of model declarations, on `rbee.evt.model.<model>.<event>`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::event_names;
use crate::{Failure, ModelSpec};

/// Event of a model's declaration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum ModelEvent {
    /// The model was declared or changed. The queen serves it as declared.
    Declared {
        /// The declaration.
        spec: Box<ModelSpec>,
        /// The previous declaration, if there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Box<ModelSpec>>,
    },
    /// The declaration was removed. The queen stops the model's workers.
    Withdrawn {},
    /// The document under the model's key is not a valid declaration. It has no effect.
    Refused {
        /// Reason of the refusal.
        failure: Failure,
    },
}

event_names!(ModelEvent {
    Declared => "declared",
    Withdrawn => "withdrawn",
    Refused => "refused",
});
