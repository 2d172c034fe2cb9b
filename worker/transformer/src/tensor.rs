//! Tensors as a model file stores them.

use rbee_kernels::{Matrix, PackError, WeightType};

/// A tensor in a model file.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    /// Storage format of its numbers.
    pub weight_type: WeightType,
    /// Dimensions, the slowest first: `[rows, columns]` for a matrix.
    pub shape: &'a [usize],
    /// The numbers, row after row.
    pub bytes: &'a [u8],
}

/// Type and shape of a tensor, known from the header of a model file before any weight is read.
#[derive(Debug, Clone, Copy)]
pub struct TensorSize<'a> {
    /// Storage format of its numbers.
    pub weight_type: WeightType,
    /// Dimensions, the slowest first: `[rows, columns]` for a matrix.
    pub shape: &'a [usize],
}

impl TensorSize<'_> {
    /// Size in the file, in bytes.
    pub(crate) fn stored_bytes(&self) -> u64 {
        let numbers: usize = self.shape.iter().product();
        (numbers / self.weight_type.block_size() * self.weight_type.block_bytes()) as u64
    }

    /// Size in memory, in bytes: matrices are packed, vectors become `f32`.
    pub(crate) fn packed_bytes(&self) -> u64 {
        match self.shape {
            [.., rows, columns] => Matrix::packed_bytes(self.weight_type, *rows, *columns) as u64,
            shape => 4 * shape.iter().product::<usize>() as u64,
        }
    }
}

/// A model file that tensors are read from by name.
pub trait TensorSource {
    /// Returns the tensor of this name; `None` if the file has none.
    fn tensor(&self, name: &str) -> Option<Tensor<'_>>;

    /// Called when `bytes`, a part of a tensor, are packed and no longer needed, so that the source can free their memory.
    fn release(&self, bytes: &[u8]);
}

/// Reason why the tensors of a file cannot be the weights of the model that was described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The description needs a tensor that the file does not have.
    #[error("the tensor {name} is missing")]
    Missing {
        /// Name in the file.
        name: String,
    },
    /// A tensor has another shape than the description requires.
    #[error("the tensor {name} has the shape {found:?}: expected {expected:?}")]
    Shape {
        /// Name in the file.
        name: String,
        /// Required dimensions, the slowest first.
        expected: Vec<usize>,
        /// Dimensions in the file, the slowest first.
        found: Vec<usize>,
    },
    /// A tensor cannot be packed.
    #[error("the tensor {name} cannot be used: {source}")]
    Pack {
        /// Name in the file.
        name: String,
        /// Reason.
        source: PackError,
    },
}
