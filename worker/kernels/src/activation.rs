//! Activation functions: element-wise, of gates, and soft caps.

use crate::{
    Isa, Pool,
    math::{erf, exp, tanh},
    multiversion::multiversioned,
    rows::for_rows,
};

/// sqrt(2 / pi), the factor of the tanh approximation of GELU.
const SQRT_2_OVER_PI: f32 = 0.797_884_6;

/// Activation of a gate in a gated feed-forward part (Shazeer: GLU Variants Improve Transformer, 2020).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateActivation {
    /// `x / (1 + e^-x)`.
    Silu,
    /// `x / 2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`.
    GeluTanh,
}

/// Activation of a feed-forward part without a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x / 2 * (1 + erf(x / sqrt(2)))` (Hendrycks and Gimpel, 2016).
    Gelu,
    /// Approximation of GELU by tanh, see [`GateActivation::GeluTanh`].
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

/// Applies gates: `gates = activation(gates) * values`, element by element.
///
/// # Panics
/// If there are not as many gates as values.
pub fn gate(pool: &Pool, isa: Isa, activation: GateActivation, gates: &mut [f32], values: &[f32]) {
    assert_eq!(gates.len(), values.len(), "one gate per value");
    for_rows(pool, gates, 1, |first, gates| {
        let values = &values[first..][..gates.len()];
        match activation {
            GateActivation::Silu => gate_silu(isa, gates, values),
            GateActivation::GeluTanh => gate_gelu_tanh(isa, gates, values),
        }
    });
}

multiversioned! {
    fn gate_silu(gates: &mut [f32], values: &[f32]) {
        for (gate, value) in gates.iter_mut().zip(values) {
            *gate = *gate / (1.0 + exp(-*gate)) * value;
        }
    }
}

multiversioned! {
    fn gate_gelu_tanh(gates: &mut [f32], values: &[f32]) {
        for (gate, value) in gates.iter_mut().zip(values) {
            *gate = gelu_tanh(*gate) * value;
        }
    }
}

/// Approximation of GELU by tanh, see [`GateActivation::GeluTanh`].
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    let inner = SQRT_2_OVER_PI * (0.044_715 * x * x).mul_add(x, x);
    0.5 * x * (1.0 + tanh(inner))
}

/// Applies an activation to each number in place.
pub fn activate(pool: &Pool, isa: Isa, activation: Activation, data: &mut [f32]) {
    for_rows(pool, data, 1, |_, data| match activation {
        Activation::Gelu => gelu_each(isa, data),
        Activation::GeluTanh => gelu_tanh_each(isa, data),
        Activation::Relu => data.iter_mut().for_each(|number| *number = if *number > 0.0 { *number } else { 0.0 }),
    });
}

multiversioned! {
    fn gelu_each(data: &mut [f32]) {
        for number in data {
            *number = 0.5 * *number * (1.0 + erf(*number * std::f32::consts::FRAC_1_SQRT_2));
        }
    }
}

multiversioned! {
    fn gelu_tanh_each(data: &mut [f32]) {
        for number in data {
            *number = gelu_tanh(*number);
        }
    }
}

/// Limits each number to between `-cap` and `cap` in a smooth way: `cap * tanh(x / cap)` (Gemma 2, 2024).
pub fn soft_cap(pool: &Pool, isa: Isa, data: &mut [f32], cap: f32) {
    for_rows(pool, data, 1, |_, data| soft_cap_each(isa, data, cap));
}

multiversioned! {
    fn soft_cap_each(data: &mut [f32], cap: f32) {
        for number in data {
            *number = cap * tanh(*number / cap);
        }
    }
}
