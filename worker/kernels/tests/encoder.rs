//! Norms, activations and attention of encoders compute their formulas, with the same bits on every instruction set and
//! whatever other texts are in the call.

mod common;

use common::{assert_close, on_every_isa};
use rbee_kernels::{Activation, Isa, Pool, activate, attend_full, layer_norm};

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|index| ((index * 7919 + seed) as f32 * 0.37).sin() * 3.0).collect()
}

#[test]
fn layer_norm_computes_its_formula() {
    for width in [1, 15, 64, 384] {
        let (input, weight, bias) = (numbers(33 * width, 0), numbers(width, 1), numbers(width, 2));
        let found = on_every_isa(|pool, isa| {
            let mut data = input.clone();
            layer_norm(pool, isa, &mut data, &weight, &bias, 1e-5);
            data
        });
        let expected = input.chunks(width).flat_map(|row| {
            let row: Vec<f64> = row.iter().map(|number| f64::from(*number)).collect();
            let mean = row.iter().sum::<f64>() / width as f64;
            let variance = row.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / width as f64;
            let scaled = row.into_iter().zip(&weight).zip(&bias);
            scaled
                .map(move |((number, weight), bias)| {
                    (number - mean) / (variance + 1e-5).sqrt() * f64::from(*weight) + f64::from(*bias)
                })
                .collect::<Vec<f64>>()
        });
        assert_close(&found, expected);
    }
}

#[test]
fn activations_compute_their_formulas() {
    let input = numbers(10_001, 0);
    let activated = |activation| {
        on_every_isa(|pool, isa| {
            let mut data = input.clone();
            activate(pool, isa, activation, &mut data);
            data
        })
    };
    let exact = || input.iter().map(|number| f64::from(*number));
    let root = (2.0 / std::f64::consts::PI).sqrt();
    assert_close(
        &activated(Activation::GeluTanh),
        exact().map(|x| 0.5 * x * (1.0 + (root * (x + 0.044_715 * x.powi(3))).tanh())),
    );
    assert_close(&activated(Activation::Relu), exact().map(|x| x.max(0.0)));
    assert_close(&activated(Activation::Gelu), exact().map(|x| 0.5 * x * (1.0 + error_function(x / 2f64.sqrt()))));
}

/// Error function by its series (Abramowitz and Stegun, 7.1.6).
fn error_function(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

/// Size and number of heads.
const SHAPES: [(usize, usize); 3] = [(32, 3), (24, 2), (1, 1)];

#[test]
fn attention_is_the_weighted_mean_of_all_values() {
    for (size, heads) in SHAPES {
        let (width, texts) = (size * heads, [1, 16, 37]);
        let rows: usize = texts.iter().sum();
        let [queries, keys, values] = [0, 1, 2].map(|seed| numbers(rows * width, seed));
        let found = on_every_isa(|pool, isa| {
            let mut out = vec![f32::NAN; rows * width];
            attend_full(pool, isa, size, width, &texts, &queries, &keys, &values, &mut out);
            out
        });
        let (mut first, at) = (0, |data: &[f32], row: usize, column: usize| f64::from(data[row * width + column]));
        for count in texts {
            for row in first..first + count {
                for head in 0..heads {
                    let columns = || head * size..(head + 1) * size;
                    let score = |token: usize| {
                        let product: f64 = columns().map(|at_| at(&queries, row, at_) * at(&keys, token, at_)).sum();
                        product / (size as f64).sqrt()
                    };
                    let scores: Vec<f64> = (first..first + count).map(score).collect();
                    let highest = scores.iter().copied().fold(f64::MIN, f64::max);
                    let weights: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    let expected = columns().map(|column| {
                        let weighted =
                            weights.iter().zip(first..).map(|(weight, token)| weight * at(&values, token, column));
                        weighted.sum::<f64>() / total
                    });
                    assert_close(&found[row * width..][columns()], expected);
                }
            }
            first += count;
        }
    }
}

#[test]
fn attention_of_a_text_does_not_depend_on_other_texts() {
    let (size, width, texts) = (32, 64, [5, 33, 1, 18]);
    let rows: usize = texts.iter().sum();
    let [queries, keys, values] = [0, 1, 2].map(|seed| numbers(rows * width, seed));
    let (pool, isa) = (Pool::new(2), Isa::detect());
    let mut together = vec![0.0; rows * width];
    attend_full(&pool, isa, size, width, &texts, &queries, &keys, &values, &mut together);
    let mut first = 0;
    for count in texts {
        let part = first * width..(first + count) * width;
        let mut alone = vec![0.0; count * width];
        let [queries, keys, values] = [&queries, &keys, &values].map(|data| &data[part.clone()]);
        attend_full(&pool, isa, size, width, &[count], queries, keys, values, &mut alone);
        assert!(alone == together[part], "{count} tokens");
        first += count;
    }
}
