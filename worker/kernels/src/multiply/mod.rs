//! Products of inputs and matrices.
//!
//! What each output is, whatever computes it: with `scale`, `minimum` and `dot` of a tile and `scale`, `sum` of the block
//! of inputs beside it,
//!
//! ```text
//! tile      = weight.scale * dot                        dot: whole numbers, exact
//!             fma(weight.scale[1], dot[1], tile)        where each 16 columns have a scale
//!             fma(weight.minimum, input.sum, tile)      where there are minimums; twice for each 16 columns
//! output    = fma(input.scale, tile, output)            tile after tile, from zero
//! ```
//!
//! and at last `output / quant_factor`. Products with floats are `fma(weight, input, output)`, column after column from zero.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
#[cfg(test)]
mod tests;

use std::{ops::Range, slice};

use crate::{
    InputRows, Isa, Matrix, Pool, WeightType,
    input_rows::{GROUP_ROWS, QuantizedRows},
    layout::{PackedLayout, ROWS},
    pool::DisjointMut,
};

/// How many rows of inputs share what is unpacked of the weights.
const BATCH: usize = 128;
/// How many bytes of weights a thread takes at once, at most, for one row of inputs; for more rows less.
const PIECE: usize = 1 << 20;
/// Into how many parts the share of a thread is cut, at least where there are so many strips.
const PARTS: usize = 4;
/// From how many rows of inputs on AMX is faster than dot products: a tile costs almost the same for fewer rows, and so does
/// the chunk that is unpacked for it.
const TILES_FROM: usize = 17;

/// Multiplies `inputs` with each of the matrices; an output has a row for each row of inputs, as long as the matrix has
/// rows. Matrices that are multiplied with the same inputs should come in one call: their work is shared out together.
///
/// The bits of outputs depend neither on `isa`, nor on how many threads or other rows there are.
///
/// # Panics
/// If a matrix has other columns than the inputs, or if an output is too short or too long.
pub fn multiply(pool: &Pool, isa: Isa, inputs: &InputRows, products: &mut [(&Matrix, &mut [f32])]) {
    let rows = inputs.rows();
    for (matrix, out) in products.iter() {
        assert_eq!(matrix.columns(), inputs.columns(), "columns of a matrix and of its inputs");
        assert_eq!(out.len(), rows * matrix.rows(), "outputs of {rows} rows");
    }
    let products: Vec<Product> = products
        .iter_mut()
        .map(|(matrix, out)| Product { matrix, inputs, out: DisjointMut(out.as_mut_ptr()) })
        .collect();
    let strips: usize = products.iter().map(|product| product.matrix.strips()).sum();
    let bytes: usize = products.iter().map(|product| product.matrix.bytes()).sum();
    let together = strips_together(strips, bytes, rows, pool.threads());
    let pieces = strips.div_ceil(together);
    pool.run(pieces * rows.div_ceil(BATCH), |piece| {
        let first = piece % pieces * together;
        let batch = piece / pieces * BATCH;
        compute(isa, &products, first..strips.min(first + together), batch..rows.min(batch + BATCH));
    });
}

/// How many strips a thread takes at once: so many that it reads some memory in a row, which is what a few rows of inputs
/// wait for, and so few that no thread waits long for another one at the end.
fn strips_together(strips: usize, bytes: usize, rows: usize, threads: usize) -> usize {
    let much = PIECE / rows.clamp(1, BATCH) * strips / bytes.max(1);
    let fair = strips / (PARTS * threads);
    much.min(fair).max(1)
}

/// Computes the outputs of some strips, which are numbered through all products.
fn compute(isa: Isa, products: &[Product], strips: Range<usize>, rows: Range<usize>) {
    let mut before = 0;
    for product in products {
        let all = before..before + product.matrix.strips();
        for strip in strips.start.max(all.start)..strips.end.min(all.end) {
            product.compute(isa, strip - before, rows.clone());
        }
        before = all.end;
    }
}

struct Product<'a> {
    matrix: &'a Matrix,
    inputs: &'a InputRows,
    out: DisjointMut<f32>,
}

impl Product<'_> {
    /// Computes the outputs of a strip.
    fn compute(&self, isa: Isa, strip: usize, rows: Range<usize>) {
        let mut few = [[0.0; ROWS]; GROUP_ROWS];
        let mut many;
        let sums = if rows.len() <= GROUP_ROWS {
            &mut few[..]
        } else {
            many = [[0.0; ROWS]; BATCH];
            &mut many[..rows.len().next_multiple_of(GROUP_ROWS)]
        };
        let weight_type = self.matrix.weight_type();
        let weights = self.matrix.strip(strip);
        let quant_factor = if weight_type.is_float() {
            let columns = self.inputs.columns();
            let inputs = &self.inputs.floats()[rows.start * columns..rows.end * columns];
            multiply_floats(isa, weight_type, weights, inputs, &mut sums[..rows.len()]);
            1.0
        } else {
            multiply_quants(isa, weight_type, weights, self.inputs.quants(rows.start, rows.end), sums);
            PackedLayout::of(weight_type as u8).quant_factor()
        };
        self.store(strip, rows.start, &sums[..rows.len()], 1.0 / quant_factor);
    }

    /// Writes what a strip gives for rows from `first` on.
    fn store(&self, strip: usize, first: usize, sums: &[[f32; ROWS]], factor: f32) {
        let width = self.matrix.rows();
        let count = ROWS.min(width - strip * ROWS);
        for (row, sums) in sums.iter().enumerate() {
            // SAFETY: within the output, and no other piece has these rows and this strip.
            let out = unsafe { slice::from_raw_parts_mut(self.out.at((first + row) * width + strip * ROWS), count) };
            match out.as_mut_array::<ROWS>() {
                Some(out) => *out = sums.map(|sum| sum * factor),
                None => out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * factor),
            }
        }
    }
}

/// Adds the products of a strip with rows of inputs to `sums`, which are for whole groups of rows.
fn multiply_quants(isa: Isa, weight_type: WeightType, strip: &[u8], inputs: QuantizedRows, sums: &mut [[f32; ROWS]]) {
    let used = &mut sums[..inputs.rows()];
    match isa {
        // SAFETY: this processor has these instructions, or there would be no such `Isa`.
        #[cfg(target_arch = "x86_64")]
        Isa::Amx if inputs.rows() >= TILES_FROM => unsafe { amx::multiply_quants(weight_type, strip, inputs, sums) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Amx | Isa::Avx512 => unsafe { avx512::multiply_quants(weight_type, strip, inputs, used) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::multiply_quants(weight_type, strip, inputs, used) },
        _ => portable::multiply_quants(weight_type, strip, inputs, used),
    }
}

fn multiply_floats(isa: Isa, weight_type: WeightType, strip: &[u8], inputs: &[f32], sums: &mut [[f32; ROWS]]) {
    match isa {
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Amx | Isa::Avx512 => unsafe { avx512::multiply_floats(weight_type, strip, inputs, sums) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::multiply_floats(weight_type, strip, inputs, sums) },
        _ => portable::multiply_floats(weight_type, strip, inputs, sums),
    }
}
