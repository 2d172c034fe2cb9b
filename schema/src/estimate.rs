//! Memory estimates of models.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Memory that a worker expects to use for its model, in bytes. It is computed before any of it is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct MemoryEstimate {
    /// The program with the tokenizer and the chat template.
    pub program_bytes: u64,
    /// The weights, packed for matrix products.
    pub weights_bytes: u64,
    /// The KV cache at its full capacity.
    pub cache_bytes: u64,
    /// Intermediate results of one step over all sequences.
    pub workspace_bytes: u64,
    /// Peak memory. The peak may be during loading, when part of the model file is in memory, or afterwards, with cache and
    /// workspace.
    pub total_bytes: u64,
}
