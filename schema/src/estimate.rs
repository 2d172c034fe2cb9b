//! What a model takes of a machine, reckoned before any of it is taken.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The memory that a worker reckons to need for its model, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct MemoryEstimate {
    /// The program with its tokenizer and chat template.
    pub program_bytes: u64,
    /// The weights, packed for products.
    pub weights_bytes: u64,
    /// Keys and values of tokens: all that the cache may take.
    pub cache_bytes: u64,
    /// What a step of all sequences writes between products.
    pub workspace_bytes: u64,
    /// The most of it at any time. Some of the file is part of it while the model is loaded, and cache and workspace are
    /// afterwards.
    pub total_bytes: u64,
}
