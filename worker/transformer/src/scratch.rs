//! Buffers between the layers of a forward pass.

use rbee_kernels::InputRows;

/// Numbers per row in each buffer of a [`Scratch`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Widths {
    /// Hidden size of the model.
    pub(crate) hidden: usize,
    /// All query heads together.
    pub(crate) query: usize,
    /// All key-value heads together.
    pub(crate) key: usize,
    /// Inner size of the feed-forward part.
    pub(crate) inner: usize,
}

/// Rows of numbers between the layers, one row per token. The memory is kept from call to call.
#[derive(Default)]
pub(crate) struct Scratch {
    /// The residual stream: what layers read and add to. Hidden size.
    pub(crate) hidden: Vec<f32>,
    /// Input or output of a part of a layer, before it is added to the residual stream. Hidden size.
    pub(crate) projected: Vec<f32>,
    /// Queries of all heads.
    pub(crate) queries: Vec<f32>,
    /// Keys of all key-value heads.
    pub(crate) keys: Vec<f32>,
    /// Values of all key-value heads.
    pub(crate) values: Vec<f32>,
    /// Output of attention, as wide as the queries.
    pub(crate) attended: Vec<f32>,
    /// Within the feed-forward part. Inner size.
    pub(crate) inner: Vec<f32>,
    /// The quantized inputs of the current product.
    pub(crate) inputs: InputRows,
}

impl Scratch {
    /// Sets the number of rows of all buffers. The contents are unspecified.
    pub(crate) fn resize(&mut self, rows: usize, widths: Widths) {
        let Widths { hidden, query, key, inner } = widths;
        for (buffer, width) in [
            (&mut self.hidden, hidden),
            (&mut self.projected, hidden),
            (&mut self.queries, query),
            (&mut self.attended, query),
            (&mut self.keys, key),
            (&mut self.values, key),
            (&mut self.inner, inner),
        ] {
            buffer.resize(rows * width, 0.0);
        }
    }
}
