//! How much memory a model takes, reckoned from what a file says of its tensors before any of it is taken.

use rbee_kernels::{Kind, Matrix, PART};

use crate::{Decoder, Description};

/// A tensor, as the header of a file describes it.
#[derive(Debug, Clone, Copy)]
pub struct TensorSize<'a> {
    /// How its numbers are stored.
    pub kind: Kind,
    /// Rows first.
    pub shape: &'a [usize],
}

/// Bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// All weights, packed.
    pub weights: u64,
    /// What of the file is in memory while it is packed: the largest tensor, or a part of it.
    pub packing: u64,
    /// Keys and values.
    pub cache: u64,
    /// What stands between products.
    pub workspace: u64,
}

impl Memory {
    /// What a model with these tensors takes, with so many pages of keys and values, and steps of at most so many rows, of
    /// which so many want logits.
    #[must_use]
    pub fn of<'a>(
        description: &Description,
        tensors: impl Iterator<Item = TensorSize<'a>> + Clone,
        pages: usize,
        rows: usize,
        wanted: usize,
    ) -> Self {
        Self {
            weights: tensors.clone().map(|tensor| tensor.packed()).sum(),
            packing: tensors.map(|tensor| tensor.stored()).max().unwrap_or(0).min(PART as u64),
            cache: (pages as u64).saturating_mul(description.page_bytes() as u64),
            workspace: Decoder::workspace(description, rows, wanted) as u64,
        }
    }

    /// The most at any time: cache and workspace are taken when everything is packed.
    #[must_use]
    pub fn most(&self) -> u64 {
        let later = self.cache.saturating_add(self.workspace);
        self.weights.saturating_add(self.packing.max(later))
    }
}

impl TensorSize<'_> {
    /// Bytes in the file.
    fn stored(&self) -> u64 {
        let numbers: usize = self.shape.iter().product();
        (numbers / self.kind.block() * self.kind.block_bytes()) as u64
    }

    /// Bytes in memory: matrices are packed, rows of numbers are floats.
    fn packed(&self) -> u64 {
        match self.shape {
            [.., rows, columns] => Matrix::packed_bytes(self.kind, *rows, *columns) as u64,
            shape => 4 * shape.iter().product::<usize>() as u64,
        }
    }
}
