//! Linear layers, and the threads and instructions that compute them.

use rbee_kernels::{InputRows, Isa, Matrix, Pool, add_to_rows, multiply};

/// A linear layer: `output = input * matrix^T + bias`.
pub(crate) struct Linear {
    /// Weights: one row per output, one column per input.
    pub(crate) matrix: Matrix,
    /// One number per output; `None` for a layer without a bias.
    pub(crate) bias: Option<Vec<f32>>,
}

/// The threads of a model, and the vector instructions that its kernels use.
pub(crate) struct Processor {
    pub(crate) pool: Pool,
    pub(crate) isa: Isa,
}

impl Processor {
    /// Applies several linear layers to the same rows of numbers, each layer into its own output.
    ///
    /// `rows` is quantized once into `inputs`, whose memory is kept for the next call.
    ///
    /// # Panics
    /// If the layers have other columns than the rows, or an output does not have one row per input row.
    pub(crate) fn linear<const N: usize>(
        &self,
        inputs: &mut InputRows,
        rows: &[f32],
        mut outputs: [(&Linear, &mut [f32]); N],
    ) {
        let Some((first, _)) = outputs.first() else { return };
        inputs.set(&self.pool, self.isa, rows, first.matrix.columns());
        multiply(
            &self.pool,
            self.isa,
            inputs,
            &mut outputs.each_mut().map(|(linear, out)| (&linear.matrix, &mut **out)),
        );
        for (linear, out) in outputs {
            if let Some(bias) = &linear.bias {
                add_to_rows(&self.pool, self.isa, out, bias);
            }
        }
    }
}
