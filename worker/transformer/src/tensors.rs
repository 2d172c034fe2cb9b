//! Tensors as they stand in a file, and how they become matrices.

use rbee_kernels::{Kind, Matrix, PackError, Pool};

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
    tensors: &'a dyn Tensors,
    progress: &'a mut dyn FnMut(usize),
}

impl<'a> Packer<'a> {
    /// Packs what `tensors` has; `progress` hears how many bytes were packed.
    pub fn new(pool: &'a Pool, tensors: &'a dyn Tensors, progress: &'a mut dyn FnMut(usize)) -> Self {
        Self { pool, tensors, progress }
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
            let matrix = Matrix::pack(self.pool, tensor.kind, rows, columns, bytes, &mut packed)
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
        let mut packed = |part: &[u8]| self.tensors.done(part);
        let matrix = Matrix::pack(self.pool, tensor.kind, 1, length, tensor.bytes, &mut packed).map_err(failed)?;
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A tensor of any name, and how many bytes of it are done with.
    struct One {
        shape: Vec<usize>,
        bytes: Vec<u8>,
        done: Cell<usize>,
    }

    impl Tensors for One {
        fn tensor(&self, _name: &str) -> Option<Tensor<'_>> {
            Some(Tensor { kind: Kind::F32, shape: &self.shape, bytes: &self.bytes })
        }

        fn done(&self, bytes: &[u8]) {
            self.done.set(self.done.get() + bytes.len());
        }
    }

    #[test]
    fn every_byte_that_was_packed_is_done_with() {
        for shape in [vec![96], vec![24, 4]] {
            let one = One { shape: shape.clone(), bytes: vec![0; 4 * 96], done: Cell::new(0) };
            let (pool, mut heard) = (Pool::new(1), 0);
            let mut progress = |bytes: usize| heard += bytes;
            let mut packer = Packer::new(&pool, &one, &mut progress);
            match shape[..] {
                [length] => assert_eq!(packer.vector("any", length).map(|numbers| numbers.len()), Ok(length)),
                _ => assert!(packer.matrices("any", [8, 16], 4).is_ok()),
            }
            assert_eq!((one.done.get(), heard), (4 * 96, 4 * 96), "{shape:?}");
        }
    }
}
