//! Inputs of products: what comes out of the layer before, made ready for multiplication with quantised weights.

use crate::{Isa, Pool, form::COLUMNS};

/// How many rows stand together: as many as the largest kernel takes at once.
pub(crate) const GROUP: usize = 16;

/// Rows of numbers that matrices are multiplied with. Its memory is kept for the next rows.
#[derive(Default)]
pub struct Inputs {
    rows: usize,
    columns: usize,
    /// For float weights: the rows themselves.
    floats: Vec<f32>,
    /// For quantised weights: groups of 16 rows, the last one maybe smaller; in a group, blocks of 32 columns; in a block,
    /// the group's rows.
    blocks: Vec<Block>,
}

/// 32 columns of one row: `number = scale * quant`, and what the sums of the quants are good for.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Block {
    pub(crate) quants: [i8; COLUMNS],
    pub(crate) scale: f32,
    /// The sum of the quants, which minimums are multiplied with.
    pub(crate) sum: f32,
    /// The sum of the quants times -128: what makes up for weights whose zero is 128.
    pub(crate) offset: i32,
    /// The same of 16 columns each.
    pub(crate) half_offsets: [i32; 2],
    pub(crate) half_sums: [f32; 2],
}

const EMPTY: Block =
    Block { quants: [0; COLUMNS], scale: 0.0, sum: 0.0, offset: 0, half_offsets: [0; 2], half_sums: [0.0; 2] };

impl Inputs {
    /// No rows yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `rows`, each `columns` long.
    ///
    /// # Panics
    /// If these are not whole rows.
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
        // Kernels that take 16 rows at once may look at rows behind the last one.
        self.blocks.resize(self.rows * blocks + GROUP, EMPTY);
        pool.run_chunks(&mut self.blocks[..self.rows * blocks], GROUP * blocks, |group, out| {
            quantise_group(isa, &rows[group * GROUP * columns..], columns, out);
        });
    }

    /// Bytes that a row of so many columns takes.
    #[must_use]
    pub fn row_bytes(columns: usize) -> usize {
        columns * size_of::<f32>() + columns.div_ceil(COLUMNS) * size_of::<Block>()
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

    /// The rows from `first`, which begins a group, to `end`.
    pub(crate) fn quants(&self, first: usize, end: usize) -> Rows<'_> {
        let blocks = self.columns / COLUMNS;
        Rows { rows: end - first, blocks, all: &self.blocks[first * blocks..] }
    }
}

/// Some rows of quantised inputs.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    rows: usize,
    blocks: usize,
    all: &'a [Block],
}

impl<'a> Rows<'a> {
    /// How many blocks a row has.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Blocks `first` and following of the rows of group `group`, and 16 blocks behind the last one; how many rows it has.
    pub(crate) fn chunk(&self, group: usize, first: usize, blocks: usize) -> (&'a [Block], usize) {
        let count = GROUP.min(self.rows - group * GROUP);
        (&self.all[group * GROUP * self.blocks + first * count..][..blocks * count + GROUP], count)
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Block `block` of each row of group `group`.
    pub(crate) fn block(&self, group: usize, block: usize) -> &'a [Block] {
        let count = GROUP.min(self.rows - group * GROUP);
        &self.all[group * GROUP * self.blocks + block * count..][..count]
    }
}

/// Numbers below this are zero: their scale would be no ordinary number.
const TINY: f32 = 1e-30;
const SIGN: u32 = 1 << 31;

/// Quantises the rows of a group.
fn quantise_group(isa: Isa, rows: &[f32], columns: usize, group: &mut [Block]) {
    match isa {
        // SAFETY: this processor has these instructions, or there would be no such `Isa`.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Amx => unsafe { quantise_group_avx512(rows, columns, group) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { quantise_group_avx2(rows, columns, group) },
        _ => quantise_rows(rows, columns, group),
    }
}

// The same source for each set of instructions: the compiler finds the vectors.

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn quantise_group_avx512(rows: &[f32], columns: usize, group: &mut [Block]) {
    quantise_rows(rows, columns, group);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn quantise_group_avx2(rows: &[f32], columns: usize, group: &mut [Block]) {
    quantise_rows(rows, columns, group);
}

#[inline(always)]
fn quantise_rows(rows: &[f32], columns: usize, group: &mut [Block]) {
    let blocks = columns / COLUMNS;
    let count = group.len() / blocks;
    for (row, numbers) in rows.chunks_exact(columns).take(count).enumerate() {
        for (block, numbers) in numbers.as_chunks().0.iter().enumerate() {
            quantise(numbers, &mut group[block * count + row]);
        }
    }
}

/// Rounds to the nearest of 255 numbers, to the even one of two.
#[inline(always)]
fn quantise(numbers: &[f32; COLUMNS], block: &mut Block) {
    // The bits of numbers without sign are ordered as the numbers are, above them the infinite, above that what is none.
    let mut largest = 0;
    for number in numbers {
        largest = largest.max(number.to_bits() & !SIGN);
    }
    let largest = f32::from_bits(largest);
    *block = EMPTY;
    if !largest.is_finite() {
        // One such input makes every output NaN, whatever the others are.
        block.scale = f32::NAN;
    } else if largest >= TINY {
        block.scale = largest / 127.0;
        let inverse = 127.0 / largest;
        for (quant, number) in block.quants.iter_mut().zip(numbers) {
            let rounded = (number * inverse).round_ties_even();
            // SAFETY: not above `largest * 127 / largest`, which is finite and not above 127 by more than rounding.
            *quant = unsafe { rounded.to_int_unchecked::<i32>() } as i8;
        }
        add_up(block);
    }
}

#[inline(always)]
fn add_up(block: &mut Block) {
    let (halves, _) = block.quants.as_chunks::<16>();
    for (index, half) in halves.iter().enumerate() {
        let sum: i32 = half.iter().map(|quant| i32::from(*quant)).sum();
        block.half_offsets[index] = -128 * sum;
        block.half_sums[index] = sum as f32;
    }
    block.offset = block.half_offsets[0] + block.half_offsets[1];
    block.sum = block.half_sums[0] + block.half_sums[1];
}
