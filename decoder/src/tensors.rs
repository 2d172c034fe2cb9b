//! Tensors as they stand in a file, and how they become matrices.

use rbee_kernels::{Isa, Kind, Matrix, PackError, Pool};

/// A tensor as it stands in a file.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    /// How its numbers are stored.
    pub kind: Kind,
    /// Rows first.
    pub shape: &'a [usize],
    /// Row after row.
    pub bytes: &'a [u8],
}

/// Where tensors come from.
pub trait Tensors {
    /// The tensor of this name, if there is one.
    fn tensor(&self, name: &str) -> Option<Tensor<'_>>;

    /// Says that these bytes of a tensor were packed and are not needed any more.
    fn done(&self, bytes: &[u8]);
}

/// Why tensors are no weights.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A tensor that the description needs is not there.
    #[error("its tensor {name} is missing")]
    Missing {
        /// As in the file.
        name: String,
    },
    /// A tensor has another shape than the description says.
    #[error("its tensor {name} has the shape {found:?}: expected {expected:?}")]
    Shape {
        /// As in the file.
        name: String,
        /// Rows first.
        expected: Vec<usize>,
        /// Rows first.
        found: Vec<usize>,
    },
    /// A tensor cannot be packed.
    #[error("its tensor {name} cannot be used: {source}")]
    Pack {
        /// As in the file.
        name: String,
        /// Why.
        source: PackError,
    },
}

/// Packs tensors, one after another, each by all threads.
pub struct Packer<'a> {
    pool: &'a Pool,
    isa: Isa,
    tensors: &'a dyn Tensors,
    progress: &'a mut dyn FnMut(usize),
}

impl<'a> Packer<'a> {
    /// Packs what `tensors` has; `progress` hears how many bytes were packed.
    pub fn new(pool: &'a Pool, isa: Isa, tensors: &'a dyn Tensors, progress: &'a mut dyn FnMut(usize)) -> Self {
        Self { pool, isa, tensors, progress }
    }

    /// Whether there is a tensor of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_some()
    }

    /// The matrix of this name and size.
    ///
    /// # Errors
    /// If it is missing, has another shape or cannot be packed; so for the other functions.
    pub fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Matrix, LoadError> {
        let [matrix] = self.matrices(name, [rows], columns)?;
        Ok(matrix)
    }

    /// Cuts one tensor into matrices of so many rows.
    ///
    /// # Errors
    /// As [`Packer::matrix`].
    pub fn matrices<const N: usize>(
        &mut self,
        name: &str,
        rows: [usize; N],
        columns: usize,
    ) -> Result<[Matrix; N], LoadError> {
        let tensor = self.find(name, &[rows.iter().sum(), columns])?;
        let row_bytes = tensor.bytes.len() / rows.iter().sum::<usize>().max(1);
        let mut first = 0;
        let mut matrices = Vec::with_capacity(N);
        for rows in rows {
            let bytes = &tensor.bytes[first * row_bytes..(first + rows) * row_bytes];
            let mut packed = |part: &[u8]| self.tensors.done(part);
            let matrix = Matrix::pack(self.pool, self.isa, tensor.kind, rows, columns, bytes, &mut packed)
                .map_err(|source| LoadError::Pack { name: name.to_owned(), source })?;
            matrices.push(matrix);
            first += rows;
        }
        (self.progress)(tensor.bytes.len());
        matrices.try_into().map_err(|_| LoadError::Missing { name: name.to_owned() })
    }

    /// The numbers of the tensor of this name and length.
    ///
    /// # Errors
    /// As [`Packer::matrix`].
    pub fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>, LoadError> {
        let tensor = self.find(name, &[length])?;
        let failed = |source| LoadError::Pack { name: name.to_owned(), source };
        let matrix =
            Matrix::pack(self.pool, self.isa, tensor.kind, 1, length, tensor.bytes, &mut |_| {}).map_err(failed)?;
        let mut numbers = vec![0.0; length];
        matrix.row(0, &mut numbers);
        (self.progress)(tensor.bytes.len());
        Ok(numbers)
    }

    fn find(&self, name: &str, expected: &[usize]) -> Result<Tensor<'a>, LoadError> {
        let tensor = self.tensors.tensor(name).ok_or_else(|| LoadError::Missing { name: name.to_owned() })?;
        if tensor.shape != expected {
            let (expected, found) = (expected.to_vec(), tensor.shape.to_vec());
            return Err(LoadError::Shape { name: name.to_owned(), expected, found });
        }
        Ok(tensor)
    }
}
