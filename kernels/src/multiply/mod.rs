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
//! and at last `output / excess`. Products with floats are `fma(weight, input, output)`, column after column from zero.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
#[cfg(test)]
mod tests;

use crate::{
    Inputs, Isa, Matrix, Pool,
    form::{Form, ROWS},
    pool::Pieces,
};

/// How many rows of inputs share what is unpacked of the weights.
const BATCH: usize = 128;

/// Multiplies `inputs` with each of the matrices; an output has a row for each row of inputs, as long as the matrix has
/// rows. Matrices that are multiplied with the same inputs should come in one call: their work is shared out together.
///
/// The bits of outputs depend neither on `isa`, nor on how many threads or other rows there are.
///
/// # Panics
/// If a matrix has other columns than the inputs, or if an output is too short or too long.
pub fn multiply(pool: &Pool, isa: Isa, inputs: &Inputs, products: &mut [(&Matrix, &mut [f32])]) {
    let rows = inputs.rows();
    for (matrix, out) in products.iter() {
        assert_eq!(matrix.columns(), inputs.columns(), "columns of a matrix and of its inputs");
        assert_eq!(out.len(), rows * matrix.rows(), "outputs of {rows} rows");
    }
    let products: Vec<Product> =
        products.iter_mut().map(|(matrix, out)| Product { matrix, inputs, out: Pieces(out.as_mut_ptr()) }).collect();
    let strips: usize = products.iter().map(|product| product.matrix.strips()).sum();
    pool.run(strips * rows.div_ceil(BATCH), |piece| {
        let first = piece / strips * BATCH;
        let mut strip = piece % strips;
        for product in &products {
            if strip < product.matrix.strips() {
                return product.compute(isa, strip, first..rows.min(first + BATCH));
            }
            strip -= product.matrix.strips();
        }
    });
}

struct Product<'a> {
    matrix: &'a Matrix,
    inputs: &'a Inputs,
    out: Pieces<f32>,
}

impl Product<'_> {
    /// Computes the outputs of a strip.
    fn compute(&self, isa: Isa, strip: usize, rows: std::ops::Range<usize>) {
        let mut sums = [[0.0; ROWS]; BATCH];
        let sums = &mut sums[..rows.len()];
        let kind = self.matrix.kind();
        let weights = self.matrix.strip(strip);
        let excess = if kind.is_float() {
            let columns = self.inputs.columns();
            let inputs = &self.inputs.floats()[rows.start * columns..rows.end * columns];
            portable::multiply_floats(kind, weights, inputs, sums);
            1.0
        } else {
            let inputs = self.inputs.quants(rows.start, rows.end);
            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: this processor has them, or there would be no such `Isa`.
                Isa::Avx512 => unsafe { avx512::multiply_quants(kind, weights, inputs, sums) },
                _ => portable::multiply_quants(kind, weights, inputs, sums),
            }
            Form::of(kind as u8).excess()
        };
        self.store(strip, rows.start, sums, excess);
    }

    fn store(&self, strip: usize, first: usize, sums: &[[f32; ROWS]], excess: f32) {
        let width = self.matrix.rows();
        let count = ROWS.min(width - strip * ROWS);
        for (row, sums) in sums.iter().enumerate() {
            for (index, sum) in sums[..count].iter().enumerate() {
                // SAFETY: within the output, and no other piece has these rows and this strip.
                unsafe { self.out.at((first + row) * width + strip * ROWS + index).write(sum / excess) };
            }
        }
    }
}
