//! Kinds of models, by what they compute.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kind of a model: the task that its workers perform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// Generates text: answers chats.
    #[default]
    Text,
    /// Computes embeddings: one vector for each input text.
    Embeddings,
}

impl ModelKind {
    /// Name of this kind on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Embeddings => "embeddings",
        }
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ModelKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "embeddings" => Ok(Self::Embeddings),
            other => Err(format!("`{other}` is not a kind of model: expected text or embeddings")),
        }
    }
}
