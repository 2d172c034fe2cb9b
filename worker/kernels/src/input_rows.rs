//! Inputs of products: rows of activations, quantized for multiplication with quantized weights.

use crate::{Isa, Pool, layout::COLUMNS};

/// Number of rows whose blocks are interleaved: those that the widest kernel (AMX) computes together.
pub(crate) const GROUP_ROWS: usize = 16;

/// Rows of inputs that matrices are multiplied with. The memory is kept for the next rows.
#[derive(Default)]
pub struct InputRows {
    rows: usize,
    columns: usize,
    /// The rows themselves, for float weights.
    floats: Vec<f32>,
    /// Quantized rows, for quantized weights: groups of 16 rows (the last may be smaller), in a group blocks of 32 columns, in
    /// a block the rows of the group. Empty if the columns are not whole blocks.
    blocks: Vec<InputBlock>,
}

/// 32 columns of one row: `number = scale * quant`, and sums of the quants that minimums and corrections need. A block
/// is one cache line of 64 bytes, the distance at which AMX loads the rows of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct InputBlock {
    pub(crate) quants: [i8; COLUMNS],
    pub(crate) scale: f32,
    /// Sum of the quants, the factor of the weights' minimums.
    pub(crate) sum: f32,
    /// Sum of the quants times -128: the correction for weights whose zero is 128.
    pub(crate) offset: i32,
    /// `offset` of each half, for weights with a scale for every 16 columns.
    pub(crate) half_offsets: [i32; 2],
    /// `sum` of each half.
    pub(crate) half_sums: [f32; 2],
}

const EMPTY: InputBlock =
    InputBlock { quants: [0; COLUMNS], scale: 0.0, sum: 0.0, offset: 0, half_offsets: [0; 2], half_sums: [0.0; 2] };

impl InputRows {
    /// Creates an empty set of rows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the rows with `rows`, each `columns` long, and quantizes them if the columns are whole blocks.
    ///
    /// # Panics
    /// If `rows` is not a whole number of rows.
    pub fn set(&mut self, pool: &Pool, isa: Isa, rows: &[f32], columns: usize) {
        assert!(columns > 0 && rows.len().is_multiple_of(columns), "{} numbers are not rows of {columns}", rows.len());
        self.columns = columns;
        self.rows = rows.len() / columns;
        self.floats.clear();
        self.floats.extend_from_slice(rows);
        if !columns.is_multiple_of(COLUMNS) {
            return self.blocks.clear();
        }
        let blocks = columns / COLUMNS;
        // Kernels that compute 16 rows at once read blocks behind the last row and ignore the result.
        self.blocks.resize(self.rows * blocks + GROUP_ROWS, EMPTY);
        pool.run_chunks(&mut self.blocks[..self.rows * blocks], GROUP_ROWS * blocks, |group, out| {
            quantize_group(isa, &rows[group * GROUP_ROWS * columns..], columns, out);
        });
    }

    /// Bytes per row of `columns` columns.
    #[must_use]
    pub fn row_bytes(columns: usize) -> usize {
        columns * size_of::<f32>() + columns.div_ceil(COLUMNS) * size_of::<InputBlock>()
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn floats(&self) -> &[f32] {
        &self.floats
    }

    /// The quantized rows from `first` to before `end`; `first` must be the start of a group.
    pub(crate) fn quants(&self, first: usize, end: usize) -> QuantizedRows<'_> {
        let blocks = self.columns / COLUMNS;
        QuantizedRows { rows: end - first, blocks, data: &self.blocks[first * blocks..] }
    }
}

/// A range of quantized rows.
#[derive(Clone, Copy)]
pub(crate) struct QuantizedRows<'a> {
    rows: usize,
    blocks: usize,
    data: &'a [InputBlock],
}

impl<'a> QuantizedRows<'a> {
    /// Number of blocks per row.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Returns `blocks` blocks, from block `first` on, of all rows of group `group`, with 16 more behind them, and the number of
    /// rows of the group.
    pub(crate) fn chunk(&self, group: usize, first: usize, blocks: usize) -> (&'a [InputBlock], usize) {
        let count = GROUP_ROWS.min(self.rows - group * GROUP_ROWS);
        (&self.data[group * GROUP_ROWS * self.blocks + first * count..][..blocks * count + GROUP_ROWS], count)
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Block `block` of each row of group `group`.
    pub(crate) fn block(&self, group: usize, block: usize) -> &'a [InputBlock] {
        let count = GROUP_ROWS.min(self.rows - group * GROUP_ROWS);
        &self.data[group * GROUP_ROWS * self.blocks + block * count..][..count]
    }
}

/// A block without a number of at least this size becomes zero: its scale could be subnormal.
const TINY: f32 = 1e-30;
const SIGN: u32 = 1 << 31;

/// Quantizes the rows of a group.
fn quantize_group(isa: Isa, rows: &[f32], columns: usize, group: &mut [InputBlock]) {
    match isa {
        // SAFETY: an `Isa` value exists only if the processor has its instructions.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Amx => unsafe { quantize_group_avx512(rows, columns, group) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { quantize_group_avx2(rows, columns, group) },
        _ => quantize_rows(rows, columns, group),
    }
}

// One source for all instruction sets: the compiler vectorizes it for each.

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn quantize_group_avx512(rows: &[f32], columns: usize, group: &mut [InputBlock]) {
    quantize_rows(rows, columns, group);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn quantize_group_avx2(rows: &[f32], columns: usize, group: &mut [InputBlock]) {
    quantize_rows(rows, columns, group);
}

#[inline(always)]
fn quantize_rows(rows: &[f32], columns: usize, group: &mut [InputBlock]) {
    let blocks = columns / COLUMNS;
    let count = group.len() / blocks;
    for (row, numbers) in rows.chunks_exact(columns).take(count).enumerate() {
        for (block, numbers) in numbers.as_chunks().0.iter().enumerate() {
            quantize(numbers, &mut group[block * count + row]);
        }
    }
}

/// Quantizes 32 numbers to -127 ..= 127 times a scale, rounding to nearest, ties to even.
#[inline(always)]
fn quantize(numbers: &[f32; COLUMNS], block: &mut InputBlock) {
    // Without the sign, the bits of floats are ordered like the numbers, then infinity, then NaN.
    let mut largest = 0;
    for number in numbers {
        largest = largest.max(number.to_bits() & !SIGN);
    }
    let largest = f32::from_bits(largest);
    *block = EMPTY;
    if !largest.is_finite() {
        // One infinite or NaN input makes every output NaN.
        block.scale = f32::NAN;
    } else if largest >= TINY {
        block.scale = largest / 127.0;
        let inverse = 127.0 / largest;
        for (quant, number) in block.quants.iter_mut().zip(numbers) {
            let rounded = (number * inverse).round_ties_even();
            // SAFETY: the size is at most `largest * (127 / largest)`, which is finite and exceeds 127 by rounding errors at
            // most, so it fits an i32.
            *quant = unsafe { rounded.to_int_unchecked::<i32>() } as i8;
        }
        add_up(block);
    }
}

#[inline(always)]
fn add_up(block: &mut InputBlock) {
    let (halves, _) = block.quants.as_chunks::<16>();
    for (index, half) in halves.iter().enumerate() {
        let sum: i32 = half.iter().map(|quant| i32::from(*quant)).sum();
        block.half_offsets[index] = -128 * sum;
        block.half_sums[index] = sum as f32;
    }
    block.offset = block.half_offsets[0] + block.half_offsets[1];
    block.sum = block.half_sums[0] + block.half_sums[1];
}
