//! Products of rows of inputs with matrices: `output = input * matrix^T`.
//!
//! Every instruction set computes an output in the same order of floating point operations. With `scale`, `minimum` and `dot`
//! of a tile of weights, and `scale` and `sum` of the block of inputs for the same columns:
//!
//! ```text
//! tile      = weight.scale * dot                        dot: integer sum of products, exact
//!             fma(weight.scale[1], dot[1], tile)        if every 16 columns have a scale
//!             fma(weight.minimum, input.sum, tile)      if there are minimums; twice if every 16 columns have one
//! output    = fma(input.scale, tile, output)            tile after tile, from zero
//! ```
//!
//! and at the end `output / quant_factor`. Products with float weights are `fma(weight, input, output)`, column after
//! column from zero.

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

/// Largest number of rows of inputs that share one unpacking of the weights.
const BATCH_ROWS: usize = 128;
/// Largest number of bytes of weights per task for one row of inputs. With more rows a task has fewer bytes.
const TASK_BYTES: usize = 1 << 20;
/// Smallest number of tasks per thread, if there are enough strips.
const TASKS_PER_THREAD: usize = 4;
/// Number of rows of inputs from which AMX is faster than AVX-512 dot products (measured). A tile product costs almost the
/// same for fewer rows, and so does unpacking the chunk for it.
const AMX_MIN_ROWS: usize = 17;

/// Multiplies `inputs` with each of the matrices. An output has one row per row of inputs, with one number per row of its
/// matrix. Pass all matrices for the same inputs in one call: their work is then divided between the threads together.
///
/// The bits of outputs depend neither on `isa`, nor on the number of threads or other rows.
///
/// # Panics
/// If a matrix and the inputs differ in their number of columns, or if an output has another length.
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
    let per_task = strips_per_task(strips, bytes, rows, pool.threads());
    let tasks = strips.div_ceil(per_task);
    pool.run(tasks * rows.div_ceil(BATCH_ROWS), |task| {
        let first = task % tasks * per_task;
        let batch = task / tasks * BATCH_ROWS;
        compute(isa, &products, first..strips.min(first + per_task), batch..rows.min(batch + BATCH_ROWS));
    });
}

/// Number of strips per task. Many, so that a task reads a long range of memory, which is the bottleneck for a few rows of
/// inputs; but few enough that no thread waits long for another one at the end.
fn strips_per_task(strips: usize, bytes: usize, rows: usize, threads: usize) -> usize {
    let by_size = TASK_BYTES / rows.clamp(1, BATCH_ROWS) * strips / bytes.max(1);
    let by_threads = strips / (TASKS_PER_THREAD * threads);
    by_size.min(by_threads).max(1)
}

/// Computes the outputs of a range of strips. Strips are numbered through all products.
fn compute(isa: Isa, products: &[Product], strips: Range<usize>, rows: Range<usize>) {
    let mut before = 0;
    for product in products {
        let own = before..before + product.matrix.strips();
        for strip in strips.start.max(own.start)..strips.end.min(own.end) {
            product.compute(isa, strip - before, rows.clone());
        }
        before = own.end;
    }
}

struct Product<'a> {
    matrix: &'a Matrix,
    inputs: &'a InputRows,
    out: DisjointMut<f32>,
}

impl Product<'_> {
    /// Computes the outputs of one strip for a range of rows of inputs.
    fn compute(&self, isa: Isa, strip: usize, rows: Range<usize>) {
        let mut few = [[0.0; ROWS]; GROUP_ROWS];
        let mut many;
        let sums = if rows.len() <= GROUP_ROWS {
            &mut few[..]
        } else {
            many = [[0.0; ROWS]; BATCH_ROWS];
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

    /// Writes the sums of a strip, times `factor`, to the outputs of the rows from `first` on.
    fn store(&self, strip: usize, first: usize, sums: &[[f32; ROWS]], factor: f32) {
        let width = self.matrix.rows();
        let count = ROWS.min(width - strip * ROWS);
        for (row, sums) in sums.iter().enumerate() {
            // SAFETY: within the output, and no other task has these rows and this strip.
            let out = unsafe { slice::from_raw_parts_mut(self.out.at((first + row) * width + strip * ROWS), count) };
            match out.as_mut_array::<ROWS>() {
                Some(out) => *out = sums.map(|sum| sum * factor),
                None => out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * factor),
            }
        }
    }
}

/// Adds the products of a strip with rows of inputs to `sums`. `sums` has whole groups of rows; those behind the last row of
/// inputs are for AMX, which computes them too.
fn multiply_quants(isa: Isa, weight_type: WeightType, strip: &[u8], inputs: QuantizedRows, sums: &mut [[f32; ROWS]]) {
    let used = &mut sums[..inputs.rows()];
    match isa {
        // SAFETY: an `Isa` value exists only if the processor has its instructions.
        #[cfg(target_arch = "x86_64")]
        Isa::Amx if inputs.rows() >= AMX_MIN_ROWS => unsafe { amx::multiply_quants(weight_type, strip, inputs, sums) },
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
        // SAFETY: an `Isa` value exists only if the processor has its instructions.
        #[cfg(target_arch = "x86_64")]
        Isa::Amx | Isa::Avx512 => unsafe { avx512::multiply_floats(weight_type, strip, inputs, sums) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::multiply_floats(weight_type, strip, inputs, sums) },
        _ => portable::multiply_floats(weight_type, strip, inputs, sums),
    }
}
