//! Matrices of weights, packed for products.

use std::slice;

use half::{bf16, f16};

use crate::{
    Pool,
    buffer::Buffer,
    layout::{COLUMNS, PackedLayout, ROWS, for_weight_type},
    pack::{pack_floats, pack_strip},
    pool::DisjointMut,
    unpack::unpack_row,
    weight_type::WeightType,
};

/// A matrix of weights with one row per output and one column per input. It is packed once; the file is not needed after.
pub struct Matrix {
    weight_type: WeightType,
    rows: usize,
    columns: usize,
    strips: Buffer,
}

/// Reason why bytes cannot be packed as a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// A row is not a whole number of blocks.
    #[error("{columns} columns of {weight_type:?}, whose blocks are {} columns: rows must be whole blocks", weight_type.block_size())]
    Columns {
        /// Storage format of the weights.
        weight_type: WeightType,
        /// Requested number of columns.
        columns: usize,
    },
    /// The number of bytes is not that of a matrix of this size.
    #[error("{rows} rows x {columns} columns of {weight_type:?} take {expected} bytes, found {found}")]
    Length {
        /// Storage format of the weights.
        weight_type: WeightType,
        /// Requested number of rows.
        rows: usize,
        /// Requested number of columns.
        columns: usize,
        /// Bytes of a matrix of this size.
        expected: usize,
        /// Bytes that were passed.
        found: usize,
    },
}

/// Bytes of a file that are packed before the next ones are read, so that the pages of the file can be freed while the packed
/// weights take memory.
pub const PACK_CHUNK_BYTES: usize = 4 << 20;

impl Matrix {
    /// Packs `bytes`, which are the rows one after another as in a GGUF file, in parts of about [`PACK_CHUNK_BYTES`]. Calls
    /// `packed` with each part that is no longer needed.
    ///
    /// # Errors
    /// If a row is not a whole number of blocks, or if the number of bytes is not that of `rows` rows.
    pub fn pack(
        pool: &Pool,
        weight_type: WeightType,
        rows: usize,
        columns: usize,
        bytes: &[u8],
        packed: &mut dyn FnMut(&[u8]),
    ) -> Result<Self, PackError> {
        if columns == 0 || !columns.is_multiple_of(weight_type.block_size()) {
            return Err(PackError::Columns { weight_type, columns });
        }
        let row_bytes = columns / weight_type.block_size() * weight_type.block_bytes();
        let expected = rows.saturating_mul(row_bytes);
        if bytes.len() != expected {
            return Err(PackError::Length { weight_type, rows, columns, expected, found: bytes.len() });
        }
        let size = strip_bytes(weight_type, columns);
        let mut strips = Buffer::zeroed(Self::packed_bytes(weight_type, rows, columns));
        let start = DisjointMut(strips.as_mut_ptr());
        let strips_per_part = (PACK_CHUNK_BYTES / (ROWS * row_bytes)).max(pool.threads());
        for (part, bytes) in bytes.chunks(strips_per_part * ROWS * row_bytes).enumerate() {
            let file: Vec<&[u8]> = bytes.chunks_exact(row_bytes).collect();
            let files: Vec<&[&[u8]]> = file.chunks(ROWS).collect();
            pool.run(files.len(), |index| {
                let (rows, at) = (files[index], (part * strips_per_part + index) * size);
                // SAFETY: the strip lies within the buffer, and only this task writes it.
                let strip = unsafe { slice::from_raw_parts_mut(start.at(at), size) };
                if weight_type.is_float() {
                    pack_floats(weight_type, rows, strip)
                } else {
                    pack_strip(weight_type, rows, columns, strip)
                }
            });
            packed(bytes);
        }
        Ok(Self { weight_type, rows, columns, strips })
    }

    /// Bytes of a packed matrix of this size.
    #[must_use]
    pub fn packed_bytes(weight_type: WeightType, rows: usize, columns: usize) -> usize {
        rows.div_ceil(ROWS).saturating_mul(strip_bytes(weight_type, columns))
    }

    /// Number of rows: outputs per row of inputs.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns: inputs per row.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of the packed weights.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.strips.len()
    }

    /// Unpacks the weights of row `index` into `out`, exactly as the file defines them.
    ///
    /// # Panics
    /// If there is no such row, or if `out` does not have one number per column.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        assert!(index < self.rows, "row {index} of {}", self.rows);
        assert_eq!(out.len(), self.columns, "one number per column");
        let (strip, row) = (self.strip(index / ROWS), index % ROWS);
        match self.weight_type {
            WeightType::F32 => read_floats(strip, row, out, f32::from_le_bytes),
            WeightType::F16 => read_floats(strip, row, out, |bytes| f16::from_le_bytes(bytes).to_f32()),
            WeightType::BF16 => read_floats(strip, row, out, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            weight_type => for_weight_type!(weight_type, unpack_row(strip, row, out)),
        }
    }

    pub(crate) fn weight_type(&self) -> WeightType {
        self.weight_type
    }

    /// Number of strips of 16 rows. The last one may have unused rows.
    pub(crate) fn strips(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    /// Strip `index`: 16 rows as [`crate::layout`] describes them, or for floats column after column.
    pub(crate) fn strip(&self, index: usize) -> &[u8] {
        let size = strip_bytes(self.weight_type, self.columns);
        &self.strips[index * size..][..size]
    }
}

fn strip_bytes(weight_type: WeightType, columns: usize) -> usize {
    if weight_type.is_float() {
        ROWS * columns * weight_type.block_bytes()
    } else {
        PackedLayout::of(weight_type as u8).strip_bytes(columns / COLUMNS)
    }
}

fn read_floats<const N: usize>(strip: &[u8], row: usize, out: &mut [f32], read: impl Fn([u8; N]) -> f32) {
    let (values, _) = strip.as_chunks::<N>();
    for (out, column) in out.iter_mut().zip(values.as_chunks::<ROWS>().0) {
        *out = read(column[row]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{Noise, weight};

    fn pack(weight_type: WeightType, rows: usize, columns: usize, bytes: &[u8]) -> Result<Matrix, PackError> {
        Matrix::pack(&Pool::new(2), weight_type, rows, columns, bytes, &mut |_| {})
    }

    #[test]
    fn unpacked_rows_are_those_of_the_file() {
        for weight_type in WeightType::ALL {
            let (rows, columns) = (37, 3 * 256);
            let bytes = Noise(7).weights(weight_type, rows, columns);
            let matrix = pack(weight_type, rows, columns, &bytes).unwrap();
            let mut out = vec![f32::NAN; columns];
            let blocks = columns / weight_type.block_size();
            for row in 0..rows {
                matrix.row(row, &mut out);
                for (column, found) in out.iter().enumerate() {
                    let block = row * blocks + column / weight_type.block_size();
                    let block = &bytes[block * weight_type.block_bytes()..][..weight_type.block_bytes()];
                    let expected = weight(weight_type, block, column % weight_type.block_size());
                    assert_eq!(*found, expected, "{weight_type:?}, row {row}, column {column}");
                }
            }
        }
    }

    #[test]
    fn packed_weights_are_hardly_larger_than_the_file() {
        for weight_type in WeightType::ALL {
            let bytes = Noise(1).weights(weight_type, 64, 2048);
            let matrix = pack(weight_type, 64, 2048, &bytes).unwrap();
            let limit = if weight_type == WeightType::Q2K { 1.2 } else { 1.06 };
            assert!(matrix.bytes() as f64 <= limit * bytes.len() as f64, "{weight_type:?}: {}", matrix.bytes());
        }
    }

    #[test]
    fn every_part_of_a_large_matrix_is_packed_and_reported() {
        let (weight_type, rows, columns) = (WeightType::Q8_0, 5 * ROWS, 256 * 1024);
        let bytes = Noise(3).weights(weight_type, rows, columns);
        let mut parts = Vec::new();
        let mut packed = |part: &[u8]| parts.push(part.len());
        let matrix = Matrix::pack(&Pool::new(2), weight_type, rows, columns, &bytes, &mut packed).unwrap();
        assert!(parts.len() > 1 && parts.iter().sum::<usize>() == bytes.len(), "{parts:?}");
        let mut out = vec![0.0; columns];
        let last = rows - 1;
        matrix.row(last, &mut out);
        let block = last * columns / weight_type.block_size();
        assert_eq!(
            out[33],
            weight(weight_type, &bytes[(block + 1) * weight_type.block_bytes()..][..weight_type.block_bytes()], 1)
        );
    }

    #[test]
    fn rows_that_are_not_whole_blocks_are_refused() {
        let refused = pack(WeightType::Q4K, 1, 128, &[0; 72]).err().unwrap();
        assert_eq!(refused.to_string(), "128 columns of Q4K, whose blocks are 256 columns: rows must be whole blocks");
        assert_eq!(
            pack(WeightType::F32, 1, 0, &[]).err(),
            Some(PackError::Columns { weight_type: WeightType::F32, columns: 0 })
        );
    }

    #[test]
    fn bytes_of_another_length_are_refused() {
        let refused = pack(WeightType::Q8_0, 2, 32, &[0; 67]).err().unwrap();
        assert_eq!(refused.to_string(), "2 rows x 32 columns of Q8_0 take 68 bytes, found 67");
        assert!(pack(WeightType::Q8_0, usize::MAX, 64, &[0; 68]).is_err());
    }
}
