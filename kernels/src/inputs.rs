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
    pub fn set(&mut self, pool: &Pool, _isa: Isa, rows: &[f32], columns: usize) {
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
            let rows = &rows[group * GROUP * columns..];
            let count = out.len() / blocks;
            for (row, numbers) in rows.chunks_exact(columns).take(count).enumerate() {
                for (block, numbers) in numbers.as_chunks().0.iter().enumerate() {
                    out[block * count + row] = quantise(numbers);
                }
            }
        });
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

    /// Block `block` of each row of group `group`.
    pub(crate) fn block(&self, group: usize, block: usize) -> &'a [Block] {
        let count = GROUP.min(self.rows - group * GROUP);
        &self.all[group * GROUP * self.blocks + block * count..][..count]
    }
}

/// Numbers below this are zero: their scale would be no ordinary number.
const TINY: f32 = 1e-30;

/// Rounds to the nearest of 255 numbers, to the even one of two.
fn quantise(numbers: &[f32; COLUMNS]) -> Block {
    // The bits of numbers without sign are ordered as the numbers are, above them the infinite, above that what is none.
    let largest = f32::from_bits(numbers.iter().fold(0, |largest, number| largest.max(number.abs().to_bits())));
    if !largest.is_finite() {
        // One such input makes every output NaN, whatever the others are.
        return Block { scale: f32::NAN, ..EMPTY };
    }
    if largest < TINY {
        return EMPTY;
    }
    let inverse = 127.0 / largest;
    let quants = numbers.map(|number| (number * inverse).round_ties_even() as i8);
    let halves = [&quants[..16], &quants[16..]].map(|half| half.iter().map(|quant| i32::from(*quant)).sum::<i32>());
    let sum = halves[0] + halves[1];
    Block {
        quants,
        scale: largest / 127.0,
        sum: sum as f32,
        offset: -128 * sum,
        half_offsets: halves.map(|sum| -128 * sum),
        half_sums: halves.map(|sum| sum as f32),
    }
}
