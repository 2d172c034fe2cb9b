//! Functions of single numbers, written so that the compiler turns loops over them into vector code.

/// Adding this number to a small float rounds it to a whole number: 1.5 * 2^23.
const ROUND: f32 = 12_582_912.0;

/// e^x within 2 units in the last place; 0 below -87; finite above 88.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let is_zero = x < -87.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    // x - whole * ln 2, with ln 2 in two parts. The first part has few bits, so that the difference is exact (Cody and
    // Waite, 1980).
    let rest = whole.mul_add(-0.693_359_4, x);
    let rest = whole.mul_add(2.121_944_4e-4, rest);
    // Taylor series of e^rest, |rest| <= ln 2 / 2.
    let mut power: f32 = 1.0 / 5040.0;
    for factor in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        power = power.mul_add(rest, factor);
    }
    // 2^whole: the lowest bits of `shifted` are the whole number, which becomes the exponent of a float.
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    if is_zero { 0.0 } else { power * f32::from_bits(exponent) }
}

/// Hyperbolic tangent, by [`exp`].
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
}

/// Error function, within 6e-7: a quotient of two polynomials, as in Eigen (<https://gitlab.com/libeigen/eigen>,
/// `generic_fast_erf`). It is 1 from 4 on.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    let mut numerator: f32 = -2.726_142_3e-10;
    for factor in [2.770_681_3e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_3e-2] {
        numerator = numerator.mul_add(square, factor);
    }
    let mut denominator: f32 = -1.456_607_2e-5;
    for factor in [-2.133_740_6e-4, -1.682_827e-3, -7.373_329_2e-3, -1.426_474e-2] {
        denominator = denominator.mul_add(square, factor);
    }
    x * numerator / denominator
}

/// Converts the bits of a 16-bit float exactly. Infinity and NaN become large finite numbers; they are never stored.
#[inline(always)]
pub(crate) fn from_f16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    // The exponent bias of f16 is lower by 112. Multiplying by 2^112 corrects it for subnormal numbers too.
    let size = f32::from_bits(u32::from(bits & 0x7FFF) << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(size.to_bits() | sign)
}

/// Sum of 16 lanes, added in pairs: lane `i` and lane `i + 8`, then `i + 4`, and so on.
#[inline(always)]
pub(crate) fn horizontal_sum(mut lanes: [f32; 16]) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

/// Largest of 16 lanes.
#[inline(always)]
pub(crate) fn horizontal_max(mut lanes: [f32; 16]) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] = if lanes[lane + half] > lanes[lane] { lanes[lane + half] } else { lanes[lane] };
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn exp_and_tanh_are_within_their_error_bounds() {
        for step in -87_000..88_000 {
            let x = step as f32 / 1000.0;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 2.5e-7, "exp({x}) = {found}, not {expected}");
        }
        assert_eq!((exp(f32::NEG_INFINITY), exp(0.0)), (0.0, 1.0));
        assert!((tanh(0.5) - 0.5f32.tanh()).abs() < 1e-6);
        assert_eq!((tanh(100.0), tanh(-100.0)), (1.0, -1.0));
    }

    /// Error function by its series (Abramowitz and Stegun, 7.1.6), whose terms all have one sign.
    fn erf_series(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
    }

    #[test]
    fn erf_is_within_its_error_bound() {
        for step in -60_000..60_000 {
            let x = step as f32 / 10_000.0;
            let (found, expected) = (f64::from(erf(x)), erf_series(f64::from(x)));
            assert!((found - expected).abs() < 6e-7, "erf({x}) = {found}, not {expected}");
        }
        assert_eq!(erf(0.0), 0.0);
    }

    #[test]
    fn every_finite_f16_is_converted_exactly() {
        for bits in 0..=u16::MAX {
            let expected = f16::from_bits(bits);
            if expected.is_finite() {
                assert_eq!(from_f16(bits).to_bits(), expected.to_f32().to_bits(), "{bits:#06x}");
            }
        }
    }
}
