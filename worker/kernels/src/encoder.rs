//! What encoders need besides products: norms around the mean, activations without a gate, and attention in which each
//! token of a text sees all of them.

use crate::{
    Isa, Pool,
    compiled::compiled,
    lanes::LANES,
    number::{erf, exp, largest, sum, tanh},
    pool::Pieces,
    rows::for_rows,
};

/// Queries that are answered together: what is loaded of keys and values serves all of them.
const QUERIES: usize = 4;

/// How what comes out of a product is bent before it goes into the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bend {
    /// `x / 2 * (1 + erf(x / sqrt(2)))` (Hendrycks and Gimpel, 2016).
    Gelu,
    /// The same by the tangent, see [`crate::Activation::GeluTanh`].
    GeluTanh,
    /// What is above zero.
    Relu,
}

/// Norms each row around its mean (Ba and others: Layer Normalization, 2016): `(x - mean) / sqrt(variance + epsilon) * weight
/// + bias`. Rows are as long as `weight`.
///
/// # Panics
/// If `bias` is not as long as `weight`.
pub fn layer_norm(pool: &Pool, isa: Isa, data: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    assert_eq!(weight.len(), bias.len(), "a bias for each weight");
    for_rows(pool, data, weight.len(), |_, data| norm_rows(isa, data, weight, bias, epsilon));
}

compiled! {
    fn norm_rows(data: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
        for row in data.chunks_exact_mut(weight.len()) {
            let count = row.len() as f32;
            let mean = total(row, |number| number) / count;
            row.iter_mut().for_each(|number| *number -= mean);
            let factor = 1.0 / (total(row, |number| number * number) / count + epsilon).sqrt();
            for ((number, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
                *number = (*number * factor).mul_add(*weight, *bias);
            }
        }
    }
}

/// The sum of a row, lane by lane.
#[inline(always)]
fn total(row: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += of(chunk[lane]);
        }
    }
    for (lane, number) in lanes.iter_mut().zip(rest) {
        *lane += of(*number);
    }
    sum(lanes)
}

/// Bends each number.
pub fn bend(pool: &Pool, isa: Isa, by: Bend, data: &mut [f32]) {
    for_rows(pool, data, 1, |_, data| match by {
        Bend::Gelu => gelu(isa, data),
        Bend::GeluTanh => gelu_tanh(isa, data),
        Bend::Relu => data.iter_mut().for_each(|number| *number = if *number > 0.0 { *number } else { 0.0 }),
    });
}

compiled! {
    fn gelu(data: &mut [f32]) {
        for number in data {
            *number = 0.5 * *number * (1.0 + erf(*number * std::f32::consts::FRAC_1_SQRT_2));
        }
    }
}

compiled! {
    fn gelu_tanh(data: &mut [f32]) {
        for number in data {
            let x = *number;
            let inner = 0.797_884_6 * (0.044_715 * x * x).mul_add(x, x);
            *number = 0.5 * x * (1.0 + tanh(inner));
        }
    }
}

/// What each token of a text finds among all tokens of that text: the mean of their values, weighted by the softmax of its
/// query's products with their keys. `queries`, `keys`, `values` and `out` have rows of all heads, `texts` says how many rows
/// each text has; scores are divided by the root of a head's `size`. A text finds the same whatever stands beside it.
///
/// # Panics
/// If sizes do not match.
#[expect(clippy::too_many_arguments, reason = "three inputs of one size, and what they mean")]
pub fn attend_all(
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
    assert!(size > 0 && width.is_multiple_of(size), "a row of {width} numbers is no heads of {size}");
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
    let start = Pieces(out.as_mut_ptr());
    pool.run(texts.len() * heads, |piece| {
        let ((first, rows), head) = (texts[piece / heads], piece % heads);
        let from = |data: &[f32]| -> Vec<f32> {
            let rows = data[first * width..][..rows * width].chunks_exact(width);
            rows.flat_map(|row| &row[head * size..][..size]).copied().collect()
        };
        let mut found = vec![0.0; rows * size];
        look(isa, size, rows, &from(queries), &by_dimension(&from(keys), size, rows), &from(values), &mut found);
        for (row, found) in found.chunks_exact(size).enumerate() {
            // SAFETY: within the output, and no other piece has these rows and this head.
            let out = unsafe { std::slice::from_raw_parts_mut(start.at((first + row) * width + head * size), size) };
            out.copy_from_slice(found);
        }
    });
}

/// Keys as products want them: sixteen tokens at a time, by dimension and then by token. Tokens that are missing are zero.
fn by_dimension(keys: &[f32], size: usize, rows: usize) -> Vec<f32> {
    let mut turned = vec![0.0; rows.next_multiple_of(LANES) * size];
    for (row, key) in keys.chunks_exact(size).enumerate() {
        let group = &mut turned[row / LANES * LANES * size..];
        for (dimension, number) in key.iter().enumerate() {
            group[dimension * LANES + row % LANES] = *number;
        }
    }
    turned
}

compiled! {
    /// One head of one text.
    fn look(size: usize, rows: usize, queries: &[f32], keys: &[f32], values: &[f32], out: &mut [f32]) {
        let scale = 1.0 / (size as f32).sqrt();
        let mut scores = vec![[[0.0f32; LANES]; QUERIES]; rows.div_ceil(LANES)];
        for first in (0..rows).step_by(QUERIES) {
            // Behind the last row its query stands in again, and is not written.
            let asked: [&[f32]; QUERIES] =
                std::array::from_fn(|index| &queries[(first + index).min(rows - 1) * size..][..size]);
            for (scores, keys) in scores.iter_mut().zip(keys.chunks_exact(LANES * size)) {
                *scores = products(asked, keys);
            }
            let totals: [f32; QUERIES] = std::array::from_fn(|index| weigh(&mut scores, index, rows, scale));
            for index in 0..QUERIES.min(rows - first) {
                let out = &mut out[(first + index) * size..][..size];
                gather(&scores, index, values, out);
                out.iter_mut().for_each(|number| *number /= totals[index]);
            }
        }
    }
}

/// The products of queries with the keys of sixteen tokens.
#[inline(always)]
fn products(queries: [&[f32]; QUERIES], keys: &[f32]) -> [[f32; LANES]; QUERIES] {
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

/// Makes the scores of a query into weights relative to the highest, and returns their sum.
#[inline(always)]
fn weigh(scores: &mut [[[f32; LANES]; QUERIES]], query: usize, rows: usize, scale: f32) -> f32 {
    let mut best = [f32::NEG_INFINITY; LANES];
    for (group, scores) in scores.iter_mut().enumerate() {
        for (lane, score) in scores[query].iter_mut().enumerate() {
            *score = if group * LANES + lane < rows { *score * scale } else { f32::NEG_INFINITY };
            best[lane] = if *score > best[lane] { *score } else { best[lane] };
        }
    }
    let (best, mut lanes) = (largest(best), [0.0f32; LANES]);
    for scores in scores.iter_mut() {
        for (lane, score) in scores[query].iter_mut().enumerate() {
            *score = exp(*score - best);
            lanes[lane] += *score;
        }
    }
    sum(lanes)
}

/// Adds up values, each by its weight, token after token.
#[inline(always)]
fn gather(scores: &[[[f32; LANES]; QUERIES]], query: usize, values: &[f32], out: &mut [f32]) {
    let weights = scores.iter().flat_map(|scores| scores[query]);
    for (weight, values) in weights.zip(values.chunks_exact(out.len())) {
        for (out, value) in out.iter_mut().zip(values) {
            *out = value.mul_add(weight, *out);
        }
    }
}
