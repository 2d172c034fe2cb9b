//! Texts become vectors.

use rbee_kernels::{Isa, Pool, activate, add, attend_full, layer_norm};

use super::{
    description::EncoderDescription,
    pooling::pool,
    weights::{EncoderWeights, LayerNorm},
};
use crate::{
    linear::Processor,
    scratch::{Scratch, Widths},
};

/// An encoder model with the threads that compute it.
pub struct Encoder {
    description: EncoderDescription,
    weights: EncoderWeights,
    processor: Processor,
    scratch: Scratch,
}

impl Encoder {
    /// Creates a model from weights that were packed as `description` requires.
    #[must_use]
    pub fn new(description: EncoderDescription, weights: EncoderWeights, pool: Pool, isa: Isa) -> Self {
        Self { description, weights, processor: Processor { pool, isa }, scratch: Scratch::default() }
    }

    /// Description of the model.
    #[must_use]
    pub fn description(&self) -> &EncoderDescription {
        &self.description
    }

    /// Computes the vectors of texts, which are given as token ids. Returns one vector of the hidden size per text, in order.
    ///
    /// # Panics
    /// If a text has no tokens or more than [`EncoderDescription::max_tokens`], or if a token is not in the vocabulary.
    pub fn encode(&mut self, texts: &[&[u32]]) -> Vec<Vec<f32>> {
        let limit = self.description.max_tokens();
        assert!(texts.iter().all(|text| (1..=limit).contains(&text.len())), "texts have 1 to {limit} tokens");
        let counts: Vec<usize> = texts.iter().map(|text| text.len()).collect();
        self.embed(texts, counts.iter().sum());
        for index in 0..self.description.layers {
            self.attention(index, &counts);
            self.feed_forward(index);
        }
        pool(&self.description, &self.scratch.hidden, &counts)
    }

    /// Writes the normed sum of the embeddings of token, position and token type into the residual stream.
    fn embed(&mut self, texts: &[&[u32]], rows: usize) {
        let Self { description, weights, processor, scratch } = self;
        let EncoderDescription { width, inner, first_position, epsilon, .. } = *description;
        scratch.resize(rows, Widths { hidden: width, query: width, key: width, inner });
        let tokens = texts.iter().flat_map(|text| text.iter().zip(first_position..));
        let mut position_row = vec![0.0; width];
        for ((token, position), row) in tokens.zip(scratch.hidden.chunks_exact_mut(width)) {
            weights.tokens.row(*token as usize, row);
            weights.positions.row(position, &mut position_row);
            for ((number, position), token_type) in row.iter_mut().zip(&position_row).zip(&weights.token_type) {
                *number += position + token_type;
            }
        }
        let LayerNorm { weight, bias } = &weights.norm;
        layer_norm(&processor.pool, processor.isa, &mut scratch.hidden, weight, bias, epsilon);
    }

    fn attention(&mut self, index: usize, counts: &[usize]) {
        let Self { description, weights, processor, scratch } = self;
        let EncoderDescription { width, heads, epsilon, .. } = *description;
        let weights = &weights.layers[index];
        let Scratch { hidden, projected, queries, keys, values, attended, inputs, .. } = scratch;
        let outputs =
            [(&weights.query, &mut queries[..]), (&weights.key, &mut keys[..]), (&weights.value, &mut values[..])];
        processor.linear(inputs, hidden, outputs);
        let (pool, isa) = (&processor.pool, processor.isa);
        attend_full(pool, isa, width / heads, width, counts, queries, keys, values, attended);
        processor.linear(inputs, attended, [(&weights.attention_output, &mut projected[..])]);
        add_and_norm(processor, hidden, projected, &weights.attention_norm, epsilon);
    }

    fn feed_forward(&mut self, index: usize) {
        let Self { description, weights, processor, scratch } = self;
        let weights = &weights.layers[index];
        let Scratch { hidden, projected, inner, inputs, .. } = scratch;
        processor.linear(inputs, hidden, [(&weights.inner, &mut inner[..])]);
        activate(&processor.pool, processor.isa, description.activation, inner);
        processor.linear(inputs, inner, [(&weights.output, &mut projected[..])]);
        add_and_norm(processor, hidden, projected, &weights.output_norm, description.epsilon);
    }
}

/// Adds the output of a part of a layer to the residual stream and norms the sum.
fn add_and_norm(processor: &Processor, hidden: &mut [f32], output: &[f32], norm: &LayerNorm, epsilon: f32) {
    let Processor { pool, isa } = processor;
    add(pool, *isa, hidden, output);
    layer_norm(pool, *isa, hidden, &norm.weight, &norm.bias, epsilon);
}
