//! Texts become vectors.

use rbee_kernels::{Inputs, Isa, Pool, add, add_to_rows, attend_all, bend, layer_norm, multiply};

use super::{
    Description, Pooling, Weights,
    weights::{Dense, LayerWeights, Norm},
};

/// A model and the threads that compute it.
pub struct Encoder {
    description: Description,
    weights: Weights,
    pool: Pool,
    isa: Isa,
    inputs: Inputs,
    scratch: Scratch,
}

/// Rows of numbers between products; their memory is kept from call to call.
#[derive(Default)]
struct Scratch {
    state: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    found: Vec<f32>,
    inner: Vec<f32>,
}

impl Encoder {
    /// A model whose weights were packed by this description.
    #[must_use]
    pub fn new(description: Description, weights: Weights, pool: Pool, isa: Isa) -> Self {
        Self { description, weights, pool, isa, inputs: Inputs::new(), scratch: Scratch::default() }
    }

    /// What it computes.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The vectors of texts, given as tokens, in their order.
    ///
    /// # Panics
    /// If a text has no tokens or more than it has positions for, or if a token is not in the vocabulary.
    pub fn encode(&mut self, texts: &[&[u32]]) -> Vec<Vec<f32>> {
        let longest = self.description.longest();
        assert!(texts.iter().all(|text| (1..=longest).contains(&text.len())), "texts have 1 to {longest} tokens");
        let counts: Vec<usize> = texts.iter().map(|text| text.len()).collect();
        self.embed(texts, counts.iter().sum());
        for index in 0..self.description.layers {
            self.attention(index, &counts);
            self.feed_forward(index);
        }
        self.pooled(&counts)
    }

    fn embed(&mut self, texts: &[&[u32]], rows: usize) {
        let Self { description, weights, pool, isa, scratch, .. } = self;
        let Description { width, inner, first_position, epsilon, .. } = *description;
        for numbers in
            [&mut scratch.state, &mut scratch.queries, &mut scratch.keys, &mut scratch.values, &mut scratch.found]
        {
            numbers.resize(rows * width, 0.0);
        }
        scratch.inner.resize(rows * inner, 0.0);
        let tokens = texts.iter().flat_map(|text| text.iter().zip(first_position..));
        let mut position = vec![0.0; width];
        for ((token, at), row) in tokens.zip(scratch.state.chunks_exact_mut(width)) {
            weights.words.row(*token as usize, row);
            weights.positions.row(at, &mut position);
            for ((number, position), kind) in row.iter_mut().zip(&position).zip(&weights.kind) {
                *number += position + kind;
            }
        }
        let Norm { weight, bias } = &weights.norm;
        layer_norm(pool, *isa, &mut scratch.state, weight, bias, epsilon);
    }

    fn attention(&mut self, index: usize, counts: &[usize]) {
        let Self { description, weights, pool, isa, inputs, scratch } = self;
        let Description { width, heads, epsilon, .. } = *description;
        let LayerWeights { query, key, value, attention_output, attention_norm, .. } = &weights.layers[index];
        let Scratch { state, queries, keys, values, found, .. } = scratch;
        inputs.set(pool, *isa, state, width);
        let products =
            &mut [(&query.matrix, &mut queries[..]), (&key.matrix, &mut keys[..]), (&value.matrix, &mut values[..])];
        multiply(pool, *isa, inputs, products);
        for (Dense { bias, .. }, out) in [(query, &mut *queries), (key, &mut *keys), (value, &mut *values)] {
            add_to_rows(pool, *isa, out, bias);
        }
        attend_all(pool, *isa, width / heads, width, counts, queries, keys, values, found);
        inputs.set(pool, *isa, found, width);
        add_and_norm(pool, *isa, inputs, attention_output, attention_norm, epsilon, queries, state);
    }

    fn feed_forward(&mut self, index: usize) {
        let Self { description, weights, pool, isa, inputs, scratch } = self;
        let LayerWeights { inner, output, norm, .. } = &weights.layers[index];
        inputs.set(pool, *isa, &scratch.state, description.width);
        multiply(pool, *isa, inputs, &mut [(&inner.matrix, &mut scratch.inner)]);
        add_to_rows(pool, *isa, &mut scratch.inner, &inner.bias);
        bend(pool, *isa, description.bend, &mut scratch.inner);
        inputs.set(pool, *isa, &scratch.inner, description.inner);
        let Scratch { state, queries, .. } = scratch;
        add_and_norm(pool, *isa, inputs, output, norm, description.epsilon, queries, state);
    }

    fn pooled(&self, counts: &[usize]) -> Vec<Vec<f32>> {
        let width = self.description.width;
        let mut rows = self.scratch.state.chunks_exact(width);
        let mut vector = |count: &usize| {
            let mut text = rows.by_ref().take(*count);
            let mut vector = text.next().map_or_else(|| vec![0.0; width], <[f32]>::to_vec);
            if self.description.pooling == Pooling::Mean {
                text.by_ref().for_each(|row| vector.iter_mut().zip(row).for_each(|(sum, number)| *sum += number));
                vector.iter_mut().for_each(|number| *number /= *count as f32);
            }
            // The rows of this text that pooling has no use for.
            text.for_each(drop);
            if self.description.is_normed {
                norm(&mut vector);
            }
            vector
        };
        counts.iter().map(&mut vector).collect()
    }
}

/// Makes a vector one long. One of length zero stays.
fn norm(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|number| f64::from(*number).powi(2)).sum();
    // As torch does: so long at least.
    let length = (square.sqrt() as f32).max(1e-12);
    vector.iter_mut().for_each(|number| *number /= length);
}

/// Adds a product to the state and norms that.
#[expect(clippy::too_many_arguments, reason = "parts of the encoder that are borrowed apart")]
fn add_and_norm(
    pool: &Pool,
    isa: Isa,
    inputs: &Inputs,
    dense: &Dense,
    norm: &Norm,
    epsilon: f32,
    product: &mut [f32],
    state: &mut [f32],
) {
    multiply(pool, isa, inputs, &mut [(&dense.matrix, &mut product[..])]);
    add_to_rows(pool, isa, product, &dense.bias);
    add(pool, isa, state, product);
    layer_norm(pool, isa, state, &norm.weight, &norm.bias, epsilon);
}
