//! Maximum and sums over a whole vocabulary, written so that the compiler uses vector instructions.

/// Number of partial sums that are computed side by side: two vectors of the widest instruction set.
const LANES: usize = 32;
/// Number of weights that are summed in 32 bits before the sum is added in 64 bits.
pub(super) const BLOCK: usize = 2048;

/// The highest logit; negative infinity if there are none.
pub(super) fn highest(logits: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = logits.chunks_exact(LANES);
    let rest = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, larger);
    for chunk in chunks {
        for (lane, logit) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *logit);
        }
    }
    lanes.into_iter().fold(rest, larger)
}

/// The sum of e^((logit - highest) / temperature) of at most [`BLOCK`] logits, to about six digits.
pub(super) fn block_sum(logits: &[f32], highest: f32, temperature: f32) -> f64 {
    let factor = 1.0 / temperature;
    let mut lanes = [0.0f32; LANES];
    let chunks = logits.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().map(|logit| exp((logit - highest) * factor)).sum();
    for chunk in chunks {
        for (lane, logit) in lanes.iter_mut().zip(chunk) {
            *lane += exp((logit - highest) * factor);
        }
    }
    lanes.into_iter().chain([rest]).map(f64::from).sum()
}

/// The sum of e^((logit - highest) / temperature) of any number of logits, to about six digits.
pub(super) fn sum(logits: &[f32], highest: f32, temperature: f32) -> f64 {
    logits.chunks(BLOCK).map(|block| block_sum(block, highest, temperature)).sum()
}

/// e^x for x up to 0, to about seven digits; 0 below -87, where the result leaves the normal numbers.
///
/// e^x = 2^n e^r with n = x / ln 2, rounded, and the Taylor series of e^r. It consists of plain additions and multiplications, so
/// that the result is the same on every machine and the compiler can vectorize it.
fn exp(x: f32) -> f32 {
    /// A number so large that its mantissa has no fractional bits: adding it rounds to a whole number.
    const ROUNDING: f32 = 12_582_912.0;
    /// ln 2 in two parts. The first has so few digits that its product with n is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let bounded = if x < -87.0 { -87.0 } else { x };
    let rounded = bounded * std::f32::consts::LOG2_E + ROUNDING;
    let n = rounded - ROUNDING;
    let r = bounded - n * LN_2[0] - n * LN_2[1];
    let series = 1.0 + r * (1.0 + r * (1.0 / 2.0 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r / 720.0)))));
    let power = f32::from_bits(rounded.to_bits().wrapping_sub(ROUNDING.to_bits()).wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { series * power }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn exponential_is_exact_to_six_digits(x in -87.0f32..=0.0) {
            let exact = f64::from(x).exp();
            prop_assert!((f64::from(exp(x)) - exact).abs() <= 5e-7 * exact, "{x}: {} for {exact}", exp(x));
        }

        #[test]
        fn sum_and_maximum_cover_all_logits(logits in prop::collection::vec(-30.0f32..30.0, 1..5_000)) {
            let highest = logits.iter().copied().fold(f32::MIN, f32::max);
            prop_assert_eq!(super::highest(&logits), highest);
            let exact: f64 = logits.iter().map(|logit| (f64::from(logit - highest) / 0.7).exp()).sum();
            prop_assert!((sum(&logits, highest, 0.7) - exact).abs() < 1e-5 * exact);
        }
    }

    #[test]
    fn forbidden_token_has_no_weight() {
        assert_eq!((exp(0.0), exp(f32::NEG_INFINITY), exp(-87.5)), (1.0, 0.0, 0.0));
        assert_eq!(highest(&[f32::NEG_INFINITY, -3.0]), -3.0);
    }
}
