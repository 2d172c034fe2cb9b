//! Attention of encoders: each token of a text attends to all tokens of that text.

use crate::{
    Isa, Pool,
    lanes::LANES,
    math::{exp, horizontal_max, horizontal_sum},
    multiversion::multiversioned,
    pool::DisjointMut,
};

/// Queries that are computed together, so that loaded keys serve all of them.
const QUERIES: usize = 4;

/// Scores of the queries that are computed together, for sixteen tokens.
type Scores = [[f32; LANES]; QUERIES];

/// Computes bidirectional attention: for each token the mean of the values of all tokens of its text, weighted by the
/// softmax of the products of its query with their keys, divided by the root of the head's `size`.
///
/// `queries`, `keys`, `values` and `out` have one row of `width` numbers per token, which are heads of `size` numbers;
/// `texts` has the number of rows of each text. The result for a text does not depend on the other texts.
///
/// # Panics
/// If sizes do not match.
#[expect(clippy::too_many_arguments, reason = "three inputs of one size, and their shape")]
pub fn attend_full(
    pool: &Pool,
    isa: Isa,
    size: usize,
    width: usize,
    texts: &[usize],
    queries: &[f32],
    keys: &[f32],
    values: &[f32],
    out: &mut [f32],
) {
    let rows: usize = texts.iter().sum();
    assert!(size > 0 && width.is_multiple_of(size), "a row of {width} numbers does not consist of heads of {size}");
    assert!(
        [queries.len(), keys.len(), values.len(), out.len()] == [rows * width; 4],
        "{rows} rows of {width} numbers"
    );
    let heads = width / size;
    let mut first = 0;
    let texts: Vec<(usize, usize)> = texts
        .iter()
        .map(|count| {
            let text = (first, *count);
            first += count;
            text
        })
        .collect();
    let start = DisjointMut(out.as_mut_ptr());
    pool.run(texts.len() * heads, |task| {
        let ((first, rows), head) = (texts[task / heads], task % heads);
        let of_head = |data: &[f32]| -> Vec<f32> {
            let rows = data[first * width..][..rows * width].chunks_exact(width);
            rows.flat_map(|row| &row[head * size..][..size]).copied().collect()
        };
        let keys = transpose(&of_head(keys), size, rows);
        let mut result = vec![0.0; rows * size];
        attend_head(isa, size, rows, &of_head(queries), &keys, &of_head(values), &mut result);
        for (row, result) in result.chunks_exact(size).enumerate() {
            // SAFETY: within the output, and no other task has these rows and this head.
            let out = unsafe { std::slice::from_raw_parts_mut(start.at((first + row) * width + head * size), size) };
            out.copy_from_slice(result);
        }
    });
}

/// Reorders keys for products: groups of sixteen tokens, in a group by dimension and then by token. Missing tokens of the
/// last group are zero.
fn transpose(keys: &[f32], size: usize, rows: usize) -> Vec<f32> {
    let mut transposed = vec![0.0; rows.next_multiple_of(LANES) * size];
    for (row, key) in keys.chunks_exact(size).enumerate() {
        let group = &mut transposed[row / LANES * LANES * size..];
        for (dimension, number) in key.iter().enumerate() {
            group[dimension * LANES + row % LANES] = *number;
        }
    }
    transposed
}

multiversioned! {
    /// Computes one head of one text.
    fn attend_head(size: usize, rows: usize, queries: &[f32], keys: &[f32], values: &[f32], out: &mut [f32]) {
        let scale = 1.0 / (size as f32).sqrt();
        let mut scores = vec![[[0.0f32; LANES]; QUERIES]; rows.div_ceil(LANES)];
        for first in (0..rows).step_by(QUERIES) {
            // Behind the last row its query is repeated. The result is not written.
            let group: [&[f32]; QUERIES] =
                std::array::from_fn(|index| &queries[(first + index).min(rows - 1) * size..][..size]);
            for (scores, keys) in scores.iter_mut().zip(keys.chunks_exact(LANES * size)) {
                *scores = products(group, keys);
            }
            let totals: [f32; QUERIES] = std::array::from_fn(|index| exponentials(&mut scores, index, rows, scale));
            for index in 0..QUERIES.min(rows - first) {
                let out = &mut out[(first + index) * size..][..size];
                add_weighted_values(&scores, index, values, out);
                out.iter_mut().for_each(|number| *number /= totals[index]);
            }
        }
    }
}

/// Products of queries with the keys of sixteen tokens.
#[inline(always)]
fn products(queries: [&[f32]; QUERIES], keys: &[f32]) -> Scores {
    let mut sums = [[0.0f32; LANES]; QUERIES];
    for (dimension, keys) in keys.as_chunks::<LANES>().0.iter().enumerate() {
        for index in 0..QUERIES {
            let query = queries[index][dimension];
            for lane in 0..LANES {
                sums[index][lane] = keys[lane].mul_add(query, sums[index][lane]);
            }
        }
    }
    sums
}

/// Replaces the scores of a query by `exp(score - highest score)` and returns their sum.
#[inline(always)]
fn exponentials(scores: &mut [Scores], query: usize, rows: usize, scale: f32) -> f32 {
    let mut highest = [f32::NEG_INFINITY; LANES];
    for (group, scores) in scores.iter_mut().enumerate() {
        for (lane, score) in scores[query].iter_mut().enumerate() {
            *score = if group * LANES + lane < rows { *score * scale } else { f32::NEG_INFINITY };
            highest[lane] = if *score > highest[lane] { *score } else { highest[lane] };
        }
    }
    let (highest, mut lanes) = (horizontal_max(highest), [0.0f32; LANES]);
    for scores in scores.iter_mut() {
        for (lane, score) in scores[query].iter_mut().enumerate() {
            *score = exp(*score - highest);
            lanes[lane] += *score;
        }
    }
    horizontal_sum(lanes)
}

/// Adds the values of all tokens, each multiplied by its weight, in the order of the tokens.
#[inline(always)]
fn add_weighted_values(scores: &[Scores], query: usize, values: &[f32], out: &mut [f32]) {
    let weights = scores.iter().flat_map(|scores| scores[query]);
    for (weight, values) in weights.zip(values.chunks_exact(out.len())) {
        for (out, value) in out.iter_mut().zip(values) {
            *out = value.mul_add(weight, *out);
        }
    }
}
