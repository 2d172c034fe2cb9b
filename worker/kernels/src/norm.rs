//! Norms of rows: by the root of the mean square, and around the mean.
//!
//! Sums run in 16 lanes whatever the vector width, and are then added in pairs: the same bits on every processor.

use crate::{Isa, Pool, lanes::LANES, math::horizontal_sum, multiversion::multiversioned, rows::for_rows};

/// Root-mean-square norm of each row (Zhang and Sennrich, 2019): `out = x / sqrt(mean(x^2) + epsilon) * weight`.
/// Rows of `input` and `out` are as long as `weight`.
///
/// # Panics
/// If `input` and `out` differ in length.
pub fn rms_norm(pool: &Pool, isa: Isa, input: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    assert_eq!(input.len(), out.len(), "one output per input");
    let width = weight.len();
    for_rows(pool, out, width, |first, out| {
        out.copy_from_slice(&input[first * width..][..out.len()]);
        rms_norm_rows(isa, out, weight, epsilon);
    });
}

/// As [`rms_norm`], in place.
pub fn rms_norm_in_place(pool: &Pool, isa: Isa, data: &mut [f32], weight: &[f32], epsilon: f32) {
    for_rows(pool, data, weight.len(), |_, data| rms_norm_rows(isa, data, weight, epsilon));
}

multiversioned! {
    fn rms_norm_rows(data: &mut [f32], weight: &[f32], epsilon: f32) {
        for row in data.chunks_exact_mut(weight.len()) {
            let factor = rms_factor(row, epsilon);
            for (number, weight) in row.iter_mut().zip(weight) {
                *number = *number * factor * weight;
            }
        }
    }
}

/// `1 / sqrt(mean(x^2) + epsilon)`.
#[inline(always)]
fn rms_factor(row: &[f32], epsilon: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = chunk[lane].mul_add(chunk[lane], lanes[lane]);
        }
    }
    for (lane, number) in lanes.iter_mut().zip(rest) {
        *lane = number.mul_add(*number, *lane);
    }
    1.0 / (horizontal_sum(lanes) / row.len() as f32 + epsilon).sqrt()
}

/// Norm of each row around its mean (Ba and others: Layer Normalization, 2016), in place:
/// `(x - mean) / sqrt(variance + epsilon) * weight + bias`. Rows are as long as `weight`.
///
/// # Panics
/// If `bias` is not as long as `weight`.
pub fn layer_norm(pool: &Pool, isa: Isa, data: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    assert_eq!(weight.len(), bias.len(), "one bias per weight");
    for_rows(pool, data, weight.len(), |_, data| layer_norm_rows(isa, data, weight, bias, epsilon));
}

multiversioned! {
    fn layer_norm_rows(data: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
        for row in data.chunks_exact_mut(weight.len()) {
            let count = row.len() as f32;
            let mean = sum_of(row, |number| number) / count;
            row.iter_mut().for_each(|number| *number -= mean);
            let factor = 1.0 / (sum_of(row, |number| number * number) / count + epsilon).sqrt();
            for ((number, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
                *number = (*number * factor).mul_add(*weight, *bias);
            }
        }
    }
}

/// Sum of `term(x)` over a row.
#[inline(always)]
fn sum_of(row: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += term(chunk[lane]);
        }
    }
    for (lane, number) in lanes.iter_mut().zip(rest) {
        *lane += term(*number);
    }
    horizontal_sum(lanes)
}
