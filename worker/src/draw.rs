//! Random numbers by index: the n-th draw of a seed is computed without the draws before it.
//!
//! Because of this, any worker can continue the answer of another one: the draw for token 20 is the same on every worker. The
//! generator is SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014), whose state is a
//! plain counter. The seed is mixed first, so that neighboring seeds are not neighboring counters.
//!
//! These draws are part of the contract between workers: a change would change the continuation of stored answers.

/// The odd number closest to 2^64 divided by the golden ratio.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// The 64 random bits of the `index`-th draw of `seed`.
pub fn bits(seed: u64, index: u32) -> u64 {
    mix(mix(seed).wrapping_add(GAMMA.wrapping_mul(u64::from(index) + 1)))
}

/// The `index`-th draw of `seed` as a number in [0, 1), uniform in steps of 2^-53.
pub fn unit(seed: u64, index: u32) -> f64 {
    // An f64 holds 53 bits exactly.
    (bits(seed, index) >> 11) as f64 / (1u64 << 53) as f64
}

fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn draws_equal_the_published_values() {
        assert_eq!(bits(0, 0), 0xE220_A839_7B1D_CDAF, "the first output of SplitMix64 seeded with 0");
        assert_eq!(bits(0, 1), 0x6E78_9E6A_A1B9_65F4);
        assert_eq!(bits(7, 41), 0x6B99_92DB_A448_0BFE, "a mixed seed, and a later draw");
    }

    #[test]
    fn draws_are_uniform() {
        let mut counts = [0u32; 16];
        for index in 0..16_000 {
            counts[(unit(42, index) * 16.0) as usize] += 1;
        }
        // 1,000 are expected in each; six standard deviations are 184.
        assert!(counts.iter().all(|count| count.abs_diff(1_000) < 184), "{counts:?}");
    }

    proptest! {
        #[test]
        fn draw_is_in_the_unit_interval(seed: u64, index: u32) {
            prop_assert!((0.0..1.0).contains(&unit(seed, index)));
        }

        #[test]
        fn neighboring_seeds_have_different_draws(seed in 0..u64::MAX, index in 0..1_000u32) {
            prop_assert_ne!(bits(seed, index), bits(seed + 1, index));
            prop_assert_ne!(bits(seed, index + 1), bits(seed + 1, index));
        }
    }
}
