//! Packing: tensors of a file become matrices, linear layers and vectors.

use rbee_kernels::{Matrix, Pool};

use crate::{
    linear::Linear,
    tensor::{LoadError, Tensor, TensorSource},
};

/// Packs the tensors of a file one after another, each with all threads.
///
/// Every function returns [`LoadError`] if the tensor is missing, has another shape or cannot be packed.
pub(crate) struct Packer<'a> {
    pool: &'a Pool,
    tensors: &'a dyn TensorSource,
    /// Called after each tensor with its size in the file, in bytes.
    progress: &'a mut dyn FnMut(usize),
}

impl<'a> Packer<'a> {
    pub(crate) fn new(pool: &'a Pool, tensors: &'a dyn TensorSource, progress: &'a mut dyn FnMut(usize)) -> Self {
        Self { pool, tensors, progress }
    }

    /// True if the file has a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_some()
    }

    /// Packs the tensor `{name}.weight` of shape `[rows, columns]`.
    pub(crate) fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Matrix, LoadError> {
        let [matrix] = self.matrices(name, [rows], columns)?;
        Ok(matrix)
    }

    /// Packs the tensor `{name}.weight` as several matrices of `rows` rows each, which stand one after another in the file.
    pub(crate) fn matrices<const N: usize>(
        &mut self,
        name: &str,
        rows: [usize; N],
        columns: usize,
    ) -> Result<[Matrix; N], LoadError> {
        let name = format!("{name}.weight");
        let tensor = self.find(&name, &[rows.iter().sum(), columns])?;
        let row_bytes = tensor.bytes.len() / rows.iter().sum::<usize>().max(1);
        let mut first = 0;
        let mut matrices = Vec::with_capacity(N);
        for rows in rows {
            let bytes = &tensor.bytes[first * row_bytes..(first + rows) * row_bytes];
            matrices.push(self.pack(&name, &tensor, [rows, columns], bytes)?);
            first += rows;
        }
        (self.progress)(tensor.bytes.len());
        matrices.try_into().map_err(|_| LoadError::Missing { name })
    }

    /// Packs a linear layer without a bias: `{name}.weight` of shape `[rows, columns]`.
    pub(crate) fn linear(&mut self, name: &str, rows: usize, columns: usize) -> Result<Linear, LoadError> {
        Ok(Linear { matrix: self.matrix(name, rows, columns)?, bias: None })
    }

    /// Packs a linear layer with a bias: `{name}.weight` of shape `[rows, columns]`, `{name}.bias` of length `rows`.
    pub(crate) fn biased_linear(&mut self, name: &str, rows: usize, columns: usize) -> Result<Linear, LoadError> {
        let matrix = self.matrix(name, rows, columns)?;
        Ok(Linear { matrix, bias: Some(self.bias(name, rows)?) })
    }

    /// Reads `{name}.bias` of this length as `f32`.
    pub(crate) fn bias(&mut self, name: &str, length: usize) -> Result<Vec<f32>, LoadError> {
        self.vector(&format!("{name}.bias"), length)
    }

    /// Reads the tensor `name` of this length as `f32`.
    pub(crate) fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>, LoadError> {
        let tensor = self.find(name, &[length])?;
        let matrix = self.pack(name, &tensor, [1, length], tensor.bytes)?;
        let mut numbers = vec![0.0; length];
        matrix.row(0, &mut numbers);
        (self.progress)(tensor.bytes.len());
        Ok(numbers)
    }

    fn pack(
        &self,
        name: &str,
        tensor: &Tensor<'_>,
        [rows, columns]: [usize; 2],
        bytes: &[u8],
    ) -> Result<Matrix, LoadError> {
        let mut packed = |part: &[u8]| self.tensors.release(part);
        Matrix::pack(self.pool, tensor.weight_type, rows, columns, bytes, &mut packed)
            .map_err(|source| LoadError::Pack { name: name.to_owned(), source })
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

    use rbee_kernels::WeightType;

    use super::*;

    /// One tensor that answers to any name, and the number of its bytes that were released.
    struct OneTensor {
        shape: Vec<usize>,
        bytes: Vec<u8>,
        released: Cell<usize>,
    }

    impl TensorSource for OneTensor {
        fn tensor(&self, _name: &str) -> Option<Tensor<'_>> {
            Some(Tensor { weight_type: WeightType::F32, shape: &self.shape, bytes: &self.bytes })
        }

        fn release(&self, bytes: &[u8]) {
            self.released.set(self.released.get() + bytes.len());
        }
    }

    #[test]
    fn every_packed_byte_is_released_and_reported_as_progress() {
        for shape in [vec![96], vec![24, 4]] {
            let source = OneTensor { shape: shape.clone(), bytes: vec![0; 4 * 96], released: Cell::new(0) };
            let (pool, mut reported) = (Pool::new(1), 0);
            let mut progress = |bytes: usize| reported += bytes;
            let mut packer = Packer::new(&pool, &source, &mut progress);
            match shape[..] {
                [length] => assert_eq!(packer.vector("any", length).map(|numbers| numbers.len()), Ok(length)),
                _ => assert!(packer.matrices("any", [8, 16], 4).is_ok()),
            }
            assert_eq!((source.released.get(), reported), (4 * 96, 4 * 96), "{shape:?}");
        }
    }
}
