//! One step of a decoder: the next tokens of several sequences together.

use std::ops::Range;

use rbee_kernels::{
    AttentionParams, Isa, KvView, PAGE_TOKENS, Pool, add, apply_rope, attend_paged, gate, multiply, rms_norm,
    rms_norm_in_place, soft_cap, store_kv,
};

use super::{
    description::DecoderDescription,
    kv_cache::{KvCache, PageId},
    weights::DecoderWeights,
};
use crate::{
    linear::Processor,
    scratch::{Scratch, Widths},
};

/// Tokens of one sequence that one step computes: a chunk of its prompt, or its newest tokens.
#[derive(Debug, Clone, Copy)]
pub struct SequenceChunk<'a> {
    /// Token ids; at least one.
    pub tokens: &'a [u32],
    /// Position of the first token in the sequence.
    pub start: usize,
    /// Pages of the sequence from its beginning, with room for these tokens.
    pub pages: &'a [PageId],
    /// Number of tokens, counted from the last, whose logits are computed.
    pub logit_rows: usize,
}

/// A decoder model with the threads that compute it.
pub struct Decoder {
    description: DecoderDescription,
    weights: DecoderWeights,
    processor: Processor,
    scratch: Scratch,
    /// Gates of the feed-forward part: one row of the inner size per token.
    gates: Vec<f32>,
    /// Logits of the last step: one row of the vocabulary's size per token that they were requested for.
    logits: Vec<f32>,
}

impl Decoder {
    /// Creates a model from weights that were packed as `description` requires.
    #[must_use]
    pub fn new(description: DecoderDescription, weights: DecoderWeights, pool: Pool, isa: Isa) -> Self {
        Self {
            description,
            weights,
            processor: Processor { pool, isa },
            scratch: Scratch::default(),
            gates: Vec::new(),
            logits: Vec::new(),
        }
    }

    /// Description of the model.
    #[must_use]
    pub fn description(&self) -> &DecoderDescription {
        &self.description
    }

    /// Threads that compute the model.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.processor.pool
    }

    /// Computes the tokens of all chunks: writes their keys and values into `cache`, and the requested logits to where
    /// [`Decoder::logits`] returns them.
    ///
    /// # Panics
    /// If a token is not in the vocabulary, or if a chunk has too few pages.
    pub fn forward(&mut self, cache: &mut KvCache, chunks: &[SequenceChunk<'_>]) {
        self.embed(chunks);
        let rotations = self.rotations(chunks);
        for index in 0..self.description.layers.len() {
            self.attention(cache, chunks, index, &rotations);
            self.feed_forward(index);
        }
        self.compute_logits(chunks);
    }

    /// Logits of the last step: one row of the vocabulary's size per requested token, in the order of the chunks.
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Writes the embeddings of all tokens into the residual stream.
    fn embed(&mut self, chunks: &[SequenceChunk<'_>]) {
        let Self { description, weights, scratch, gates, .. } = self;
        let rows: usize = chunks.iter().map(|chunk| chunk.tokens.len()).sum();
        let (width, inner) = (description.width, description.inner);
        let (query, key) = (description.query_width(), description.key_width());
        scratch.resize(rows, Widths { hidden: width, query, key, inner });
        gates.resize(rows * inner, 0.0);
        let tokens = chunks.iter().flat_map(|chunk| chunk.tokens);
        for (token, row) in tokens.zip(scratch.hidden.chunks_exact_mut(width)) {
            weights.embedding.row(*token as usize, row);
            if description.embedding_scale != 1.0 {
                row.iter_mut().for_each(|number| *number *= description.embedding_scale);
            }
        }
    }

    /// Sines and cosines of all rows, for each rotary embedding.
    fn rotations(&self, chunks: &[SequenceChunk<'_>]) -> Vec<Vec<f32>> {
        let positions = || chunks.iter().flat_map(|chunk| chunk.start..chunk.start + chunk.tokens.len());
        self.description.ropes.iter().map(|rope| rope.rotations(positions())).collect()
    }

    fn attention(&mut self, cache: &mut KvCache, chunks: &[SequenceChunk<'_>], index: usize, rotations: &[Vec<f32>]) {
        self.query_key_value(index, rotations);
        let Self { description, weights, processor, scratch, .. } = self;
        let (pool, isa, weights) = (&processor.pool, processor.isa, &weights.layers[index]);
        store_keys_and_values(description, cache, chunks, index, scratch);
        let views = kv_views(description, cache, chunks, index);
        let params = AttentionParams {
            scale: description.attention_scale,
            soft_cap: description.attention_cap,
            window: description.layers[index].window,
        };
        attend_paged(pool, isa, &description.heads, &params, &scratch.queries, &views, &mut scratch.attended);
        let output = [(&weights.attention_output, &mut scratch.projected[..])];
        processor.linear(&mut scratch.inputs, &scratch.attended, output);
        if let Some(norms) = &weights.post_norms {
            rms_norm_in_place(pool, isa, &mut scratch.projected, &norms.attention, description.epsilon);
        }
        add(pool, isa, &mut scratch.hidden, &scratch.projected);
    }

    /// Computes queries, keys and values of all rows, normed and rotated.
    fn query_key_value(&mut self, index: usize, rotations: &[Vec<f32>]) {
        let Self { description, weights, processor, scratch, .. } = self;
        let (pool, isa, layer) = (&processor.pool, processor.isa, description.layers[index]);
        let (weights, epsilon) = (&weights.layers[index], description.epsilon);
        let Scratch { hidden, projected, queries, keys, values, inputs, .. } = scratch;
        rms_norm(pool, isa, hidden, &weights.attention_norm, epsilon, projected);
        let outputs =
            [(&weights.query, &mut queries[..]), (&weights.key, &mut keys[..]), (&weights.value, &mut values[..])];
        processor.linear(inputs, projected, outputs);
        if let Some(norms) = &weights.head_norms {
            rms_norm_in_place(pool, isa, queries, &norms.query, epsilon);
            rms_norm_in_place(pool, isa, keys, &norms.key, epsilon);
        }
        if let Some(rope) = layer.rope {
            let (size, pairing, rotations) =
                (description.heads.size, description.ropes[rope].pairing, &rotations[rope]);
            apply_rope(pool, isa, queries, description.query_width(), size, rotations, pairing);
            apply_rope(pool, isa, keys, description.key_width(), size, rotations, pairing);
        }
    }

    fn feed_forward(&mut self, index: usize) {
        let Self { description, weights, processor, scratch, gates, .. } = self;
        let (pool, isa, weights) = (&processor.pool, processor.isa, &weights.layers[index]);
        let Scratch { hidden, projected, inner, inputs, .. } = scratch;
        rms_norm(pool, isa, hidden, &weights.feed_forward_norm, description.epsilon, projected);
        processor.linear(inputs, projected, [(&weights.gate, &mut gates[..]), (&weights.up, &mut inner[..])]);
        gate(pool, isa, description.activation, gates, inner);
        processor.linear(inputs, gates, [(&weights.down, &mut projected[..])]);
        if let Some(norms) = &weights.post_norms {
            rms_norm_in_place(pool, isa, projected, &norms.feed_forward, description.epsilon);
        }
        add(pool, isa, hidden, projected);
    }

    fn compute_logits(&mut self, chunks: &[SequenceChunk<'_>]) {
        let Self { description, weights, processor, scratch, logits, .. } = self;
        let (pool, isa, width) = (&processor.pool, processor.isa, description.width);
        let (mut end, mut requested) = (0, 0);
        for chunk in chunks {
            end += chunk.tokens.len();
            let rows = (end - chunk.logit_rows) * width..end * width;
            // Requested rows move to the front. Their new place is never behind their old one.
            scratch.hidden.copy_within(rows, requested * width);
            requested += chunk.logit_rows;
        }
        scratch.hidden.truncate(requested * width);
        logits.resize(requested * description.vocabulary, 0.0);
        if requested == 0 {
            return;
        }
        scratch.projected.resize(requested * width, 0.0);
        rms_norm(pool, isa, &scratch.hidden, &weights.norm, description.epsilon, &mut scratch.projected);
        scratch.inputs.set(pool, isa, &scratch.projected, width);
        multiply(pool, isa, &scratch.inputs, &mut [(weights.output_projection(), logits)]);
        if let Some(cap) = description.logit_cap {
            soft_cap(pool, isa, logits, cap);
        }
    }
}

/// Range of a layer within a page.
fn layer_range(description: &DecoderDescription, layer: usize) -> Range<usize> {
    let size = description.heads.page_layer_len();
    layer * size..(layer + 1) * size
}

fn store_keys_and_values(
    description: &DecoderDescription,
    cache: &mut KvCache,
    chunks: &[SequenceChunk<'_>],
    layer: usize,
    scratch: &Scratch,
) {
    let width = description.key_width();
    let mut rows = scratch.keys.chunks_exact(width).zip(scratch.values.chunks_exact(width));
    for chunk in chunks {
        for (position, (keys, values)) in (chunk.start..chunk.start + chunk.tokens.len()).zip(&mut rows) {
            let page = cache.data_mut(chunk.pages[position / PAGE_TOKENS]);
            store_kv(&description.heads, &mut page[layer_range(description, layer)], position, keys, values);
        }
    }
}

/// Keys and values of all sequences in one layer, as attention reads them.
fn kv_views<'a>(
    description: &DecoderDescription,
    cache: &'a KvCache,
    chunks: &[SequenceChunk<'_>],
    layer: usize,
) -> Vec<KvView<'a>> {
    let mut first = 0;
    let view = |chunk: &SequenceChunk<'_>| {
        let rows = first..first + chunk.tokens.len();
        first = rows.end;
        let pages = chunk.pages.iter().map(|page| &cache.data(*page)[layer_range(description, layer)]).collect();
        KvView { pages, start: chunk.start, rows }
    };
    chunks.iter().map(view).collect()
}
