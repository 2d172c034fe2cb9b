//! One step of a model for several sequences.

use rbee_kernels::{
    Inputs, Isa, Look, PAGE, Pool, Sight, add, add_to_rows, attend, gate, multiply, rms_norm, rms_norm_in_place,
    rotate, soft_cap, store,
};

use crate::{
    Cache, Description, Page, Weights,
    weights::{LayerWeights, Projection},
};

/// Tokens of one sequence that are computed in one step.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    /// At least one.
    pub tokens: &'a [u32],
    /// Position of the first.
    pub start: usize,
    /// The sequence's pages, with room for these tokens.
    pub pages: &'a [Page],
    /// For how many of the tokens, counted from the last, logits are wanted.
    pub wanted: usize,
}

/// A model and the threads that compute it.
pub struct Decoder {
    description: Description,
    weights: Weights,
    pool: Pool,
    isa: Isa,
    inputs: Inputs,
    scratch: Scratch,
}

/// Rows of numbers between products; their memory is kept from step to step.
#[derive(Default)]
struct Scratch {
    state: Vec<f32>,
    normed: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    found: Vec<f32>,
    gates: Vec<f32>,
    inner: Vec<f32>,
    logits: Vec<f32>,
}

impl Decoder {
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

    /// Its weights.
    #[must_use]
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The threads that compute it.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Bytes of what stands between products, in steps of at most so many rows, of which so many want logits.
    pub(crate) fn workspace(description: &Description, rows: usize, wanted: usize) -> usize {
        let (width, inner) = (description.width, description.inner);
        let (queries, keys) = (description.query_width(), description.key_width());
        let row = 2 * (width + queries + keys + inner) * size_of::<f32>();
        rows * (row + Inputs::row_bytes(width.max(queries).max(inner)))
            + wanted * description.vocabulary * size_of::<f32>()
    }

    /// Computes the tokens of `spans`: writes their keys and values into `cache`, and the logits that are wanted to where
    /// [`Decoder::logits`] finds them.
    ///
    /// # Panics
    /// If a token is not in the vocabulary, or if a span has too few pages.
    pub fn forward(&mut self, cache: &mut Cache, spans: &[Span<'_>]) {
        let rows: usize = spans.iter().map(|span| span.tokens.len()).sum();
        self.embed(spans, rows);
        let turns = self.turns(spans);
        for index in 0..self.description.layers.len() {
            self.attention(cache, spans, index, &turns);
            self.feed_forward(index);
        }
        self.compute_logits(spans);
    }

    /// The logits of the last step: a row of the vocabulary's size for each token that they were wanted for, in order.
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        &self.scratch.logits
    }

    fn embed(&mut self, spans: &[Span<'_>], rows: usize) {
        let Self { description, weights, scratch, .. } = self;
        let width = description.width;
        scratch.state.resize(rows * width, 0.0);
        let tokens = spans.iter().flat_map(|span| span.tokens);
        for (token, row) in tokens.zip(scratch.state.chunks_exact_mut(width)) {
            weights.embedding.row(*token as usize, row);
            if description.embedding_scale != 1.0 {
                row.iter_mut().for_each(|number| *number *= description.embedding_scale);
            }
        }
        scratch.normed.resize(rows * width, 0.0);
        scratch.queries.resize(rows * description.query_width(), 0.0);
        scratch.found.resize(rows * description.query_width(), 0.0);
        scratch.keys.resize(rows * description.key_width(), 0.0);
        scratch.values.resize(rows * description.key_width(), 0.0);
        scratch.gates.resize(rows * description.inner, 0.0);
        scratch.inner.resize(rows * description.inner, 0.0);
    }

    /// The angles of all rows, for each rope.
    fn turns(&self, spans: &[Span<'_>]) -> Vec<Vec<f32>> {
        let positions = || spans.iter().flat_map(|span| span.start..span.start + span.tokens.len());
        self.description.ropes.iter().map(|rope| rope.turns(positions())).collect()
    }

    fn attention(&mut self, cache: &mut Cache, spans: &[Span<'_>], index: usize, turns: &[Vec<f32>]) {
        let Self { description, weights, pool, isa, inputs, scratch } = self;
        let (isa, layer, weights) = (*isa, description.layers[index], &weights.layers[index]);
        let epsilon = description.epsilon;
        rms_norm(pool, isa, &scratch.state, &weights.attention_norm, epsilon, &mut scratch.normed);
        inputs.set(pool, isa, &scratch.normed, description.width);
        project(pool, isa, inputs, weights, scratch);
        if let Some([query_norm, key_norm]) = &weights.head_norms {
            rms_norm_in_place(pool, isa, &mut scratch.queries, query_norm, epsilon);
            rms_norm_in_place(pool, isa, &mut scratch.keys, key_norm, epsilon);
        }
        if let Some(rope) = layer.rope {
            let (size, pairs, turns) = (description.heads.size, description.ropes[rope].pairs, &turns[rope]);
            rotate(pool, isa, &mut scratch.queries, description.query_width(), size, turns, pairs);
            rotate(pool, isa, &mut scratch.keys, description.key_width(), size, turns, pairs);
        }
        remember(description, cache, spans, index, scratch);
        let sights = sights(description, cache, spans, index);
        let look = Look { scale: description.attention_scale, cap: description.attention_cap, window: layer.window };
        attend(pool, isa, &description.heads, &look, &scratch.queries, &sights, &mut scratch.found);
        inputs.set(pool, isa, &scratch.found, description.query_width());
        multiply(pool, isa, inputs, &mut [(&weights.attention_output, &mut scratch.normed)]);
        if let Some([norm, _]) = &weights.post_norms {
            rms_norm_in_place(pool, isa, &mut scratch.normed, norm, epsilon);
        }
        add(pool, isa, &mut scratch.state, &scratch.normed);
    }

    fn feed_forward(&mut self, index: usize) {
        let Self { description, weights, pool, isa, inputs, scratch } = self;
        let (isa, weights) = (*isa, &weights.layers[index]);
        rms_norm(pool, isa, &scratch.state, &weights.inner_norm, description.epsilon, &mut scratch.normed);
        inputs.set(pool, isa, &scratch.normed, description.width);
        let products = &mut [(&weights.gate, &mut scratch.gates[..]), (&weights.up, &mut scratch.inner[..])];
        multiply(pool, isa, inputs, products);
        gate(pool, isa, description.activation, &mut scratch.gates, &scratch.inner);
        inputs.set(pool, isa, &scratch.gates, description.inner);
        multiply(pool, isa, inputs, &mut [(&weights.down, &mut scratch.normed)]);
        if let Some([_, norm]) = &weights.post_norms {
            rms_norm_in_place(pool, isa, &mut scratch.normed, norm, description.epsilon);
        }
        add(pool, isa, &mut scratch.state, &scratch.normed);
    }

    fn compute_logits(&mut self, spans: &[Span<'_>]) {
        let Self { description, weights, pool, isa, inputs, scratch } = self;
        let (isa, width) = (*isa, description.width);
        let (mut first, mut wanted) = (0, 0);
        for span in spans {
            first += span.tokens.len();
            let rows = (first - span.wanted) * width..first * width;
            // Wanted rows move to the front, never behind where they were.
            scratch.state.copy_within(rows, wanted * width);
            wanted += span.wanted;
        }
        scratch.state.truncate(wanted * width);
        scratch.logits.resize(wanted * description.vocabulary, 0.0);
        if wanted == 0 {
            return;
        }
        scratch.normed.resize(wanted * width, 0.0);
        rms_norm(pool, isa, &scratch.state, &weights.norm, description.epsilon, &mut scratch.normed);
        inputs.set(pool, isa, &scratch.normed, width);
        multiply(pool, isa, inputs, &mut [(weights.head(), &mut scratch.logits)]);
        if let Some(cap) = description.logit_cap {
            soft_cap(pool, isa, &mut scratch.logits, cap);
        }
    }
}

fn project(pool: &Pool, isa: Isa, inputs: &Inputs, weights: &LayerWeights, scratch: &mut Scratch) {
    let LayerWeights { query, key, value, .. } = weights;
    let Scratch { queries, keys, values, .. } = scratch;
    multiply(
        pool,
        isa,
        inputs,
        &mut [(&query.matrix, &mut queries[..]), (&key.matrix, &mut keys[..]), (&value.matrix, &mut values[..])],
    );
    for (Projection { bias, .. }, out) in [(query, queries), (key, keys), (value, values)] {
        if let Some(bias) = bias {
            add_to_rows(pool, isa, out, bias);
        }
    }
}

/// Where the layer stands in a page.
fn part(description: &Description, layer: usize) -> std::ops::Range<usize> {
    let size = description.heads.page_layer();
    layer * size..(layer + 1) * size
}

fn remember(description: &Description, cache: &mut Cache, spans: &[Span<'_>], layer: usize, scratch: &Scratch) {
    let width = description.key_width();
    let mut rows = scratch.keys.chunks_exact(width).zip(scratch.values.chunks_exact(width));
    for span in spans {
        for (position, (keys, values)) in (span.start..span.start + span.tokens.len()).zip(&mut rows) {
            let page = cache.numbers_mut(span.pages[position / PAGE]);
            store(&description.heads, &mut page[part(description, layer)], position, keys, values);
        }
    }
}

fn sights<'a>(description: &Description, cache: &'a Cache, spans: &[Span<'_>], layer: usize) -> Vec<Sight<'a>> {
    let mut first = 0;
    let sight = |span: &Span<'_>| {
        let rows = first..first + span.tokens.len();
        first = rows.end;
        let pages = span.pages.iter().map(|page| &cache.numbers(*page)[part(description, layer)]).collect();
        Sight { pages, start: span.start, rows }
    };
    spans.iter().map(sight).collect()
}
