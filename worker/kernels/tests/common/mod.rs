//! Assertions for tests of kernels: the same bits on every instruction set, and results close to a formula in 64 bits.

use rbee_kernels::{Isa, Pool};

/// Computes with every instruction set and with 1 and 3 threads, asserts that the bits are the same, and returns the result.
pub(crate) fn on_every_isa(compute: impl Fn(&Pool, Isa) -> Vec<f32>) -> Vec<f32> {
    let expected = compute(&Pool::new(1), Isa::Portable);
    for isa in Isa::all() {
        for threads in [1, 3] {
            let found = compute(&Pool::new(threads), *isa);
            let same = found.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{isa:?}, {threads} threads");
        }
    }
    expected
}

/// Asserts that numbers are as close to the expected ones as computing with 32-bit floats allows.
pub(crate) fn assert_close(found: &[f32], expected: impl Iterator<Item = f64>) {
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(*found) - expected).abs() <= 1e-5 + 2e-6 * expected.abs(),
            "{index}: {found}, not {expected}"
        );
    }
}
