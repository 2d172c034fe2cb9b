//! Sixteen numbers that are computed together: plain, in two vectors of 256 bits, or in one of 512.

use crate::number::from_f16;

pub(crate) const LANES: usize = 16;

/// Sixteen numbers. Every kind gives the same bits.
///
/// # Safety
/// All functions are for processors that have what the kind needs, and work only where they are inlined into a function
/// with these target features.
pub(crate) trait Lanes: Copy {
    unsafe fn zero() -> Self;
    unsafe fn of(numbers: &[f32; LANES]) -> Self;
    unsafe fn of_f16(numbers: &[u16; LANES]) -> Self;
    /// `self * factor + sum`, rounded once.
    unsafe fn fused(self, factor: f32, sum: Self) -> Self;
    unsafe fn times(self, factor: f32) -> Self;
    unsafe fn store(self, numbers: &mut [f32; LANES]);
}

/// For every processor.
#[derive(Clone, Copy)]
pub(crate) struct Plain([f32; LANES]);

impl Lanes for Plain {
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; LANES])
    }

    #[inline(always)]
    unsafe fn of(numbers: &[f32; LANES]) -> Self {
        Self(*numbers)
    }

    #[inline(always)]
    unsafe fn of_f16(numbers: &[u16; LANES]) -> Self {
        Self(numbers.map(from_f16))
    }

    #[inline(always)]
    unsafe fn fused(self, factor: f32, sum: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane].mul_add(factor, sum.0[lane])))
    }

    #[inline(always)]
    unsafe fn times(self, factor: f32) -> Self {
        Self(self.0.map(|number| number * factor))
    }

    #[inline(always)]
    unsafe fn store(self, numbers: &mut [f32; LANES]) {
        *numbers = self.0;
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Pair, Wide};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm_loadu_si128, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
        _mm256_mul_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm512_cvtph_ps, _mm512_fmadd_ps,
        _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use super::{LANES, Lanes};

    /// AVX-512 F.
    #[derive(Clone, Copy)]
    pub(crate) struct Wide(__m512);

    // SAFETY of all: the caller promises the instructions; references are to as many numbers as are read or written.
    impl Lanes for Wide {
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_setzero_ps()) }
        }

        #[inline(always)]
        unsafe fn of(numbers: &[f32; LANES]) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_loadu_ps(numbers.as_ptr())) }
        }

        #[inline(always)]
        unsafe fn of_f16(numbers: &[u16; LANES]) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(numbers.as_ptr().cast()))) }
        }

        #[inline(always)]
        unsafe fn fused(self, factor: f32, sum: Self) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_fmadd_ps(self.0, _mm512_set1_ps(factor), sum.0)) }
        }

        #[inline(always)]
        unsafe fn times(self, factor: f32) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_mul_ps(self.0, _mm512_set1_ps(factor))) }
        }

        #[inline(always)]
        unsafe fn store(self, numbers: &mut [f32; LANES]) {
            // SAFETY: see above.
            unsafe { _mm512_storeu_ps(numbers.as_mut_ptr(), self.0) }
        }
    }

    /// AVX2, FMA and F16C.
    #[derive(Clone, Copy)]
    pub(crate) struct Pair(__m256, __m256);

    // SAFETY of all: as for `Wide`.
    impl Lanes for Pair {
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm256_setzero_ps(), _mm256_setzero_ps()) }
        }

        #[inline(always)]
        unsafe fn of(numbers: &[f32; LANES]) -> Self {
            let start = numbers.as_ptr();
            // SAFETY: see above.
            unsafe { Self(_mm256_loadu_ps(start), _mm256_loadu_ps(start.add(8))) }
        }

        #[inline(always)]
        unsafe fn of_f16(numbers: &[u16; LANES]) -> Self {
            let start = numbers.as_ptr();
            // SAFETY: see above.
            unsafe {
                let halves = [_mm_loadu_si128(start.cast()), _mm_loadu_si128(start.add(8).cast())];
                Self(_mm256_cvtph_ps(halves[0]), _mm256_cvtph_ps(halves[1]))
            }
        }

        #[inline(always)]
        unsafe fn fused(self, factor: f32, sum: Self) -> Self {
            // SAFETY: see above.
            unsafe {
                let factor = _mm256_set1_ps(factor);
                Self(_mm256_fmadd_ps(self.0, factor, sum.0), _mm256_fmadd_ps(self.1, factor, sum.1))
            }
        }

        #[inline(always)]
        unsafe fn times(self, factor: f32) -> Self {
            // SAFETY: see above.
            unsafe {
                let factor = _mm256_set1_ps(factor);
                Self(_mm256_mul_ps(self.0, factor), _mm256_mul_ps(self.1, factor))
            }
        }

        #[inline(always)]
        unsafe fn store(self, numbers: &mut [f32; LANES]) {
            let start = numbers.as_mut_ptr();
            // SAFETY: see above.
            unsafe {
                _mm256_storeu_ps(start, self.0);
                _mm256_storeu_ps(start.add(8), self.1);
            }
        }
    }
}
