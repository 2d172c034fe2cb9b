//! Matrices of weights as products want them.

use std::slice;

use half::{bf16, f16};

use crate::{
    Pool,
    buffer::Buffer,
    form::{COLUMNS, Form, ROWS, for_kind},
    kind::Kind,
    pack::{pack_floats, pack_strip},
    pool::Pieces,
    unpack::unpack_row,
};

/// Weights: rows x columns, where rows are outputs and columns inputs. Packed once, and the only copy.
pub struct Matrix {
    kind: Kind,
    rows: usize,
    columns: usize,
    strips: Buffer,
}

/// Why bytes are no matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// A row does not end with a block.
    #[error("{columns} columns of {kind:?}, whose blocks are {} columns: rows must be whole blocks", kind.block())]
    Columns {
        /// How the weights are stored.
        kind: Kind,
        /// How many columns there should be.
        columns: usize,
    },
    /// There are more or fewer bytes than a matrix of this size has.
    #[error("{rows} rows x {columns} columns of {kind:?} take {expected} bytes, found {found}")]
    Length {
        /// How the weights are stored.
        kind: Kind,
        /// How many rows there should be.
        rows: usize,
        /// How many columns there should be.
        columns: usize,
        /// How many bytes that makes.
        expected: usize,
        /// How many bytes there are.
        found: usize,
    },
}

/// Bytes of a file that are packed before others are looked at: a file's pages can be given back as the weights take theirs.
pub const PART: usize = 4 << 20;

impl Matrix {
    /// Packs `bytes`, which stand row after row as in a GGUF file, in parts of about [`PART`] bytes; `packed` hears of each
    /// part that is not needed any more.
    ///
    /// # Errors
    /// If rows are not whole blocks, or if `bytes` are not that many rows.
    pub fn pack(
        pool: &Pool,
        kind: Kind,
        rows: usize,
        columns: usize,
        bytes: &[u8],
        packed: &mut dyn FnMut(&[u8]),
    ) -> Result<Self, PackError> {
        if columns == 0 || !columns.is_multiple_of(kind.block()) {
            return Err(PackError::Columns { kind, columns });
        }
        let row_bytes = columns / kind.block() * kind.block_bytes();
        let expected = rows.saturating_mul(row_bytes);
        if bytes.len() != expected {
            return Err(PackError::Length { kind, rows, columns, expected, found: bytes.len() });
        }
        let size = strip_bytes(kind, columns);
        let mut strips = Buffer::zeroed(Self::packed_bytes(kind, rows, columns));
        let start = Pieces(strips.as_mut_ptr());
        let together = (PART / (ROWS * row_bytes)).max(pool.threads());
        for (part, bytes) in bytes.chunks(together * ROWS * row_bytes).enumerate() {
            let file: Vec<&[u8]> = bytes.chunks_exact(row_bytes).collect();
            let files: Vec<&[&[u8]]> = file.chunks(ROWS).collect();
            pool.run(files.len(), |index| {
                let (rows, at) = (files[index], (part * together + index) * size);
                // SAFETY: each strip lies within the buffer and is written by one call alone.
                let strip = unsafe { slice::from_raw_parts_mut(start.at(at), size) };
                if kind.is_float() { pack_floats(kind, rows, strip) } else { pack_strip(kind, rows, columns, strip) }
            });
            packed(bytes);
        }
        Ok(Self { kind, rows, columns, strips })
    }

    /// How many bytes a matrix of this size takes when it is packed.
    #[must_use]
    pub fn packed_bytes(kind: Kind, rows: usize, columns: usize) -> usize {
        rows.div_ceil(ROWS).saturating_mul(strip_bytes(kind, columns))
    }

    /// How many outputs it gives.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many inputs it takes.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.strips.len()
    }

    /// The weights of one row, exactly as the file means them.
    ///
    /// # Panics
    /// If there is no such row, or if `out` is not one row.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        assert!(index < self.rows, "row {index} of {}", self.rows);
        assert_eq!(out.len(), self.columns, "a row of a matrix");
        let (strip, row) = (self.strip(index / ROWS), index % ROWS);
        match self.kind {
            Kind::F32 => read_floats(strip, row, out, f32::from_le_bytes),
            Kind::F16 => read_floats(strip, row, out, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Kind::BF16 => read_floats(strip, row, out, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            kind => for_kind!(kind, unpack_row(strip, row, out)),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// How many strips of 16 rows it has.
    pub(crate) fn strips(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    /// Strip `index`: 16 rows, as [`crate::form`] says, or for floats column after column.
    pub(crate) fn strip(&self, index: usize) -> &[u8] {
        let size = strip_bytes(self.kind, self.columns);
        &self.strips[index * size..][..size]
    }
}

fn strip_bytes(kind: Kind, columns: usize) -> usize {
    if kind.is_float() {
        ROWS * columns * kind.block_bytes()
    } else {
        Form::of(kind as u8).strip_bytes(columns / COLUMNS)
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

    fn pack(kind: Kind, rows: usize, columns: usize, bytes: &[u8]) -> Result<Matrix, PackError> {
        Matrix::pack(&Pool::new(2), kind, rows, columns, bytes, &mut |_| {})
    }

    #[test]
    fn rows_are_what_the_file_means() {
        for kind in Kind::ALL {
            let (rows, columns) = (37, 3 * 256);
            let bytes = Noise(7).weights(kind, rows, columns);
            let matrix = pack(kind, rows, columns, &bytes).unwrap();
            let mut out = vec![f32::NAN; columns];
            let blocks = columns / kind.block();
            for row in 0..rows {
                matrix.row(row, &mut out);
                for (column, found) in out.iter().enumerate() {
                    let block = row * blocks + column / kind.block();
                    let block = &bytes[block * kind.block_bytes()..][..kind.block_bytes()];
                    let expected = weight(kind, block, column % kind.block());
                    assert_eq!(*found, expected, "{kind:?}, row {row}, column {column}");
                }
            }
        }
    }

    #[test]
    fn packed_weights_take_little_more_than_the_file() {
        for kind in Kind::ALL {
            let bytes = Noise(1).weights(kind, 64, 2048);
            let matrix = pack(kind, 64, 2048, &bytes).unwrap();
            let limit = if kind == Kind::Q2K { 1.2 } else { 1.06 };
            assert!(matrix.bytes() as f64 <= limit * bytes.len() as f64, "{kind:?}: {}", matrix.bytes());
        }
    }

    #[test]
    fn a_large_matrix_is_packed_in_parts_which_are_the_whole() {
        let (kind, rows, columns) = (Kind::Q8_0, 5 * ROWS, 256 * 1024);
        let bytes = Noise(3).weights(kind, rows, columns);
        let mut parts = Vec::new();
        let mut hear = |part: &[u8]| parts.push(part.len());
        let matrix = Matrix::pack(&Pool::new(2), kind, rows, columns, &bytes, &mut hear).unwrap();
        assert!(parts.len() > 1 && parts.iter().sum::<usize>() == bytes.len(), "{parts:?}");
        let mut out = vec![0.0; columns];
        let last = rows - 1;
        matrix.row(last, &mut out);
        let block = last * columns / kind.block();
        assert_eq!(out[33], weight(kind, &bytes[(block + 1) * kind.block_bytes()..][..kind.block_bytes()], 1));
    }

    #[test]
    fn rows_that_are_not_whole_blocks_are_refused() {
        let refused = pack(Kind::Q4K, 1, 128, &[0; 72]).err().unwrap();
        assert_eq!(refused.to_string(), "128 columns of Q4K, whose blocks are 256 columns: rows must be whole blocks");
        assert_eq!(pack(Kind::F32, 1, 0, &[]).err(), Some(PackError::Columns { kind: Kind::F32, columns: 0 }));
    }

    #[test]
    fn bytes_of_another_length_are_refused() {
        let refused = pack(Kind::Q8_0, 2, 32, &[0; 67]).err().unwrap();
        assert_eq!(refused.to_string(), "2 rows x 32 columns of Q8_0 take 68 bytes, found 67");
        assert!(pack(Kind::Q8_0, usize::MAX, 64, &[0; 68]).is_err());
    }
}
