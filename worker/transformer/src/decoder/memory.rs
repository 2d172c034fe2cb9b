//! Memory that a decoder takes, computed from the header of its file before any of it is allocated.

use rbee_kernels::{InputRows, PACK_CHUNK_BYTES};

use super::description::DecoderDescription;
use crate::tensor::TensorSize;

/// Largest step that [`super::Decoder::forward`] is called with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepLimits {
    /// Tokens of all sequences together.
    pub rows: usize,
    /// Tokens whose logits are computed.
    pub logit_rows: usize,
}

/// Memory of a model by purpose, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModelMemory {
    /// All weights, packed.
    pub weights: u64,
    /// Part of the file that is in memory while it is packed: the largest tensor, at most [`PACK_CHUNK_BYTES`].
    pub packing: u64,
    /// Keys and values.
    pub cache: u64,
    /// Buffers between layers, and the logits.
    pub workspace: u64,
}

impl ModelMemory {
    /// Computes the memory of a model with these tensors, `pages` pages of keys and values, and steps within `limits`.
    #[must_use]
    pub fn estimate<'a>(
        description: &DecoderDescription,
        tensors: impl Iterator<Item = TensorSize<'a>> + Clone,
        pages: usize,
        limits: StepLimits,
    ) -> Self {
        Self {
            weights: tensors.clone().map(|tensor| tensor.packed_bytes()).sum(),
            packing: tensors.map(|tensor| tensor.stored_bytes()).max().unwrap_or(0).min(PACK_CHUNK_BYTES as u64),
            cache: (pages as u64).saturating_mul(description.page_bytes() as u64),
            workspace: workspace(description, limits) as u64,
        }
    }

    /// Largest sum at any time, in bytes. Cache and workspace are allocated after packing has ended.
    #[must_use]
    pub fn peak(&self) -> u64 {
        let later = self.cache.saturating_add(self.workspace);
        self.weights.saturating_add(self.packing.max(later))
    }
}

/// Bytes of the buffers between layers and of the logits: each of four widths has two buffers (see
/// [`crate::scratch::Scratch`]; the second one of the inner size holds the gates).
fn workspace(description: &DecoderDescription, limits: StepLimits) -> usize {
    let (width, inner) = (description.width, description.inner);
    let (queries, keys) = (description.query_width(), description.key_width());
    let row = 2 * (width + queries + keys + inner) * size_of::<f32>();
    limits.rows * (row + InputRows::row_bytes(width.max(queries).max(inner)))
        + limits.logit_rows * description.vocabulary * size_of::<f32>()
}
