//! RMS norms, gates, soft caps and rotary positions compute their formulas, with the same bits on every instruction set.

mod common;

use common::{assert_close, on_every_isa};
use rbee_kernels::{GateActivation, RopePairing, apply_rope, gate, rms_norm, rms_norm_in_place, soft_cap};

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|index| ((index * 7919) as f32 * 0.37).sin() * 5.0).collect()
}

#[test]
fn rms_norm_divides_by_the_root_of_the_mean_square() {
    for width in [1, 15, 64, 576] {
        let (input, weight) = (numbers(33 * width), numbers(width));
        let found = on_every_isa(|pool, isa| {
            let mut out = vec![0.0; input.len()];
            rms_norm(pool, isa, &input, &weight, 1e-5, &mut out);
            let mut in_place = input.clone();
            rms_norm_in_place(pool, isa, &mut in_place, &weight, 1e-5);
            assert_eq!(out, in_place);
            out
        });
        let expected = input.chunks(width).flat_map(|row| {
            let mean: f64 = row.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>() / width as f64;
            let weighted = row.iter().zip(&weight).map(|(number, weight)| f64::from(*number) * f64::from(*weight));
            weighted.map(move |number| number / (mean + 1e-5).sqrt()).collect::<Vec<f64>>()
        });
        assert_close(&found, expected);
    }
}

#[test]
fn gates_compute_their_formulas() {
    let (gates, values) = (numbers(10_001), numbers(10_001));
    let pairs = || gates.iter().zip(&values).map(|(gate, value)| (f64::from(*gate), f64::from(*value)));
    let computed = |activation| {
        on_every_isa(|pool, isa| {
            let mut out = gates.clone();
            gate(pool, isa, activation, &mut out, &values);
            out
        })
    };
    assert_close(&computed(GateActivation::Silu), pairs().map(|(x, value)| x / (1.0 + (-x).exp()) * value));
    let root = (2.0 / std::f64::consts::PI).sqrt();
    let gelu = |x: f64| 0.5 * x * (1.0 + (root * (x + 0.044_715 * x.powi(3))).tanh());
    assert_close(&computed(GateActivation::GeluTanh), pairs().map(|(x, value)| gelu(x) * value));
}

#[test]
fn soft_cap_computes_its_formula() {
    let found = on_every_isa(|pool, isa| {
        let mut data = numbers(5_000);
        soft_cap(pool, isa, &mut data, 3.0);
        data
    });
    assert_close(&found, numbers(5_000).into_iter().map(|number| 3.0 * (f64::from(number) / 3.0).tanh()));
}

#[test]
fn apply_rope_rotates_pairs_by_their_angles() {
    let (head, width, rows) = (8, 24, 200);
    let angle = |row: usize, pair: usize| row as f64 * 0.1f64.powi(pair as i32);
    // Six of the eight numbers of a head are rotated.
    let rotations: Vec<f32> = (0..rows)
        .flat_map(|row| {
            let angles = (0..3).map(move |pair| angle(row, pair));
            angles.clone().map(f64::cos).chain(angles.map(f64::sin)).map(|number| number as f32)
        })
        .collect();
    for pairs in [RopePairing::Interleaved, RopePairing::Halves] {
        let before = numbers(rows * width);
        let found = on_every_isa(|pool, isa| {
            let mut data = before.clone();
            apply_rope(pool, isa, &mut data, width, head, &rotations, pairs);
            data
        });
        for row in 0..rows {
            for start in (row * width..(row + 1) * width).step_by(head) {
                for pair in 0..3 {
                    let (a, b) = if pairs == RopePairing::Halves { (pair, pair + 3) } else { (2 * pair, 2 * pair + 1) };
                    let (x, y) = (f64::from(before[start + a]), f64::from(before[start + b]));
                    let (sine, cosine) = angle(row, pair).sin_cos();
                    assert_close(&[found[start + a]], [x * cosine - y * sine].into_iter());
                    assert_close(&[found[start + b]], [x * sine + y * cosine].into_iter());
                }
                assert_eq!(found[start + 6..start + 8], before[start + 6..start + 8]);
            }
        }
    }
}
