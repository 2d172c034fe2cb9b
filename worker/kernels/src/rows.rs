//! What is computed row by row between products: norms, activations, rotary positions.

use crate::{
    Isa, Pool,
    compiled::compiled,
    number::{exp, sum, tanh},
};

/// Numbers that are worth a thread of their own.
const WORTH_A_THREAD: usize = 4096;

/// How a gate opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e^-x)`.
    Silu,
    /// `x / 2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`.
    GeluTanh,
}

/// The root-mean-square norm of each row of `input`, times `weight` (Zhang and Sennrich, 2019): `out = x / sqrt(mean(x^2) +
/// epsilon) * weight`. Rows are as long as `weight`.
///
/// # Panics
/// If `input` and `out` are not as many rows of that length.
pub fn rms_norm(pool: &Pool, isa: Isa, input: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    assert_eq!(input.len(), out.len(), "as many numbers go in as come out");
    let width = weight.len();
    for_rows(pool, out, width, |first, out| {
        out.copy_from_slice(&input[first * width..][..out.len()]);
        norm_rows(isa, out, weight, epsilon);
    });
}

/// The same within `data`.
pub fn rms_norm_in_place(pool: &Pool, isa: Isa, data: &mut [f32], weight: &[f32], epsilon: f32) {
    for_rows(pool, data, weight.len(), |_, data| norm_rows(isa, data, weight, epsilon));
}

compiled! {
    fn norm_rows(data: &mut [f32], weight: &[f32], epsilon: f32) {
        for row in data.chunks_exact_mut(weight.len()) {
            let factor = norm_factor(row, epsilon);
            for (number, weight) in row.iter_mut().zip(weight) {
                *number = *number * factor * weight;
            }
        }
    }
}

#[inline(always)]
fn norm_factor(row: &[f32], epsilon: f32) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (chunks, rest) = row.as_chunks::<16>();
    for chunk in chunks {
        for lane in 0..16 {
            lanes[lane] = chunk[lane].mul_add(chunk[lane], lanes[lane]);
        }
    }
    for (lane, number) in lanes.iter_mut().zip(rest) {
        *lane = number.mul_add(*number, *lane);
    }
    1.0 / (sum(lanes) / row.len() as f32 + epsilon).sqrt()
}

/// Lets gates decide what passes: `gates = activation(gates) * values`.
///
/// # Panics
/// If there are not as many gates as values.
pub fn gate(pool: &Pool, isa: Isa, activation: Activation, gates: &mut [f32], values: &[f32]) {
    assert_eq!(gates.len(), values.len(), "a gate for each value");
    for_rows(pool, gates, 1, |first, gates| {
        let values = &values[first..][..gates.len()];
        match activation {
            Activation::Silu => silu(isa, gates, values),
            Activation::GeluTanh => gelu(isa, gates, values),
        }
    });
}

compiled! {
    fn silu(gates: &mut [f32], values: &[f32]) {
        for (gate, value) in gates.iter_mut().zip(values) {
            *gate = *gate / (1.0 + exp(-*gate)) * value;
        }
    }
}

compiled! {
    fn gelu(gates: &mut [f32], values: &[f32]) {
        for (gate, value) in gates.iter_mut().zip(values) {
            let x = *gate;
            let inner = 0.797_884_6 * (0.044_715 * x * x).mul_add(x, x);
            *gate = 0.5 * x * (1.0 + tanh(inner)) * value;
        }
    }
}

/// Adds `other` to `data`.
///
/// # Panics
/// If they are not of the same size.
pub fn add(pool: &Pool, isa: Isa, data: &mut [f32], other: &[f32]) {
    assert_eq!(data.len(), other.len(), "two of the same size");
    for_rows(pool, data, 1, |first, data| add_each(isa, data, &other[first..][..data.len()]));
}

/// Adds `row` to each row of `data`.
pub fn add_to_rows(pool: &Pool, isa: Isa, data: &mut [f32], row: &[f32]) {
    for_rows(pool, data, row.len(), |_, data| {
        data.chunks_exact_mut(row.len()).for_each(|data| add_each(isa, data, row));
    });
}

compiled! {
    fn add_each(data: &mut [f32], other: &[f32]) {
        for (number, other) in data.iter_mut().zip(other) {
            *number += other;
        }
    }
}

/// Bends numbers so that they stay below `cap`: `cap * tanh(x / cap)`.
pub fn soft_cap(pool: &Pool, isa: Isa, data: &mut [f32], cap: f32) {
    for_rows(pool, data, 1, |_, data| cap_each(isa, data, cap));
}

compiled! {
    fn cap_each(data: &mut [f32], cap: f32) {
        for number in data {
            *number = cap * tanh(*number / cap);
        }
    }
}

/// Which two numbers of a head turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// Neighbours: 0 and 1, 2 and 3 ...
    Neighbours,
    /// One of the first half and the one at its place in the second half.
    Halves,
}

/// Turns pairs of numbers by angles that stand for positions (Su and others: RoFormer, 2021). `data` has rows of heads of
/// `head` numbers; `turns` has for each row cosine and sine of each pair: all cosines, then all sines. Numbers behind the
/// pairs stay.
pub fn rotate(pool: &Pool, isa: Isa, data: &mut [f32], width: usize, head: usize, turns: &[f32], pairs: Pairs) {
    let per_row = turns.len() / (data.len() / width).max(1);
    for_rows(pool, data, width, |first, data| {
        rotate_rows(isa, data, width, head, &turns[first * per_row..], per_row, pairs);
    });
}

compiled! {
    fn rotate_rows(data: &mut [f32], width: usize, head: usize, turns: &[f32], per_row: usize, pairs: Pairs) {
        for (row, turns) in data.chunks_exact_mut(width).zip(turns.chunks_exact(per_row)) {
            let (cosines, sines) = turns.split_at(per_row / 2);
            for head in row.chunks_exact_mut(head) {
                turn(&mut head[..per_row], cosines, sines, pairs);
            }
        }
    }
}

#[inline(always)]
fn turn(head: &mut [f32], cosines: &[f32], sines: &[f32], pairs: Pairs) {
    match pairs {
        Pairs::Neighbours => {
            for ((pair, cosine), sine) in head.as_chunks_mut::<2>().0.iter_mut().zip(cosines).zip(sines) {
                *pair = turned(*pair, *cosine, *sine);
            }
        }
        Pairs::Halves => {
            let (first, second) = head.split_at_mut(cosines.len());
            for (((a, b), cosine), sine) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
                [*a, *b] = turned([*a, *b], *cosine, *sine);
            }
        }
    }
}

#[inline(always)]
fn turned([a, b]: [f32; 2], cosine: f32, sine: f32) -> [f32; 2] {
    [a.mul_add(cosine, -(b * sine)), a.mul_add(sine, b * cosine)]
}

/// Calls `work` with whole rows of `data` and the number of the first, from several threads where there is enough.
pub(crate) fn for_rows(pool: &Pool, data: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = (WORTH_A_THREAD / width).max(1);
    pool.run_chunks(data, rows * width, |index, chunk| work(index * rows, chunk));
}
