//! Vectors of sixteen floats behind one trait: plain Rust, two vectors of 256 bits, or one of 512.

use crate::math::from_f16;

/// Number of floats that kernels compute together, whatever the vector width.
pub(crate) const LANES: usize = 16;

/// Sixteen floats. All implementations compute the same bits.
///
/// # Safety
/// The processor must have the instructions of the implementation. The functions must be inlined into a function with
/// these target features, otherwise each operation becomes a call.
pub(crate) trait Lanes: Copy {
    unsafe fn zero() -> Self;
    unsafe fn load(numbers: &[f32; LANES]) -> Self;
    /// Loads sixteen `f16`, given as bits.
    unsafe fn load_f16(numbers: &[u16; LANES]) -> Self;
    /// `self * factor + sum`, rounded once.
    unsafe fn mul_add(self, factor: f32, sum: Self) -> Self;
    unsafe fn scale(self, factor: f32) -> Self;
    unsafe fn store(self, numbers: &mut [f32; LANES]);
}

/// PortableLanes Rust, for every processor.
#[derive(Clone, Copy)]
pub(crate) struct PortableLanes([f32; LANES]);

impl Lanes for PortableLanes {
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; LANES])
    }

    #[inline(always)]
    unsafe fn load(numbers: &[f32; LANES]) -> Self {
        Self(*numbers)
    }

    #[inline(always)]
    unsafe fn load_f16(numbers: &[u16; LANES]) -> Self {
        Self(numbers.map(from_f16))
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: f32, sum: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane].mul_add(factor, sum.0[lane])))
    }

    #[inline(always)]
    unsafe fn scale(self, factor: f32) -> Self {
        Self(self.0.map(|number| number * factor))
    }

    #[inline(always)]
    unsafe fn store(self, numbers: &mut [f32; LANES]) {
        *numbers = self.0;
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2Lanes, Avx512Lanes};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm_loadu_si128, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
        _mm256_mul_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm512_cvtph_ps, _mm512_fmadd_ps,
        _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use super::{LANES, Lanes};

    /// One vector of 512 bits: AVX-512 F.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512Lanes(__m512);

    // SAFETY of all functions: the caller guarantees the instructions. References point to exactly the sixteen numbers
    // that are read or written.
    impl Lanes for Avx512Lanes {
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: see at the top of this implementation.
            unsafe { Self(_mm512_setzero_ps()) }
        }

        #[inline(always)]
        unsafe fn load(numbers: &[f32; LANES]) -> Self {
            // SAFETY: see at the top of this implementation.
            unsafe { Self(_mm512_loadu_ps(numbers.as_ptr())) }
        }

        #[inline(always)]
        unsafe fn load_f16(numbers: &[u16; LANES]) -> Self {
            // SAFETY: see at the top of this implementation.
            unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(numbers.as_ptr().cast()))) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, factor: f32, sum: Self) -> Self {
            // SAFETY: see at the top of this implementation.
            unsafe { Self(_mm512_fmadd_ps(self.0, _mm512_set1_ps(factor), sum.0)) }
        }

        #[inline(always)]
        unsafe fn scale(self, factor: f32) -> Self {
            // SAFETY: see at the top of this implementation.
            unsafe { Self(_mm512_mul_ps(self.0, _mm512_set1_ps(factor))) }
        }

        #[inline(always)]
        unsafe fn store(self, numbers: &mut [f32; LANES]) {
            // SAFETY: see at the top of this implementation.
            unsafe { _mm512_storeu_ps(numbers.as_mut_ptr(), self.0) }
        }
    }

    /// Two vectors of 256 bits: AVX2, FMA and F16C.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2Lanes(__m256, __m256);

    // SAFETY of all functions: as for `Avx512Lanes`.
    impl Lanes for Avx2Lanes {
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: see at the top of this implementation.
            unsafe { Self(_mm256_setzero_ps(), _mm256_setzero_ps()) }
        }

        #[inline(always)]
        unsafe fn load(numbers: &[f32; LANES]) -> Self {
            let start = numbers.as_ptr();
            // SAFETY: see at the top of this implementation.
            unsafe { Self(_mm256_loadu_ps(start), _mm256_loadu_ps(start.add(8))) }
        }

        #[inline(always)]
        unsafe fn load_f16(numbers: &[u16; LANES]) -> Self {
            let start = numbers.as_ptr();
            // SAFETY: see at the top of this implementation.
            unsafe {
                let halves = [_mm_loadu_si128(start.cast()), _mm_loadu_si128(start.add(8).cast())];
                Self(_mm256_cvtph_ps(halves[0]), _mm256_cvtph_ps(halves[1]))
            }
        }

        #[inline(always)]
        unsafe fn mul_add(self, factor: f32, sum: Self) -> Self {
            // SAFETY: see at the top of this implementation.
            unsafe {
                let factor = _mm256_set1_ps(factor);
                Self(_mm256_fmadd_ps(self.0, factor, sum.0), _mm256_fmadd_ps(self.1, factor, sum.1))
            }
        }

        #[inline(always)]
        unsafe fn scale(self, factor: f32) -> Self {
            // SAFETY: see at the top of this implementation.
            unsafe {
                let factor = _mm256_set1_ps(factor);
                Self(_mm256_mul_ps(self.0, factor), _mm256_mul_ps(self.1, factor))
            }
        }

        #[inline(always)]
        unsafe fn store(self, numbers: &mut [f32; LANES]) {
            let start = numbers.as_mut_ptr();
            // SAFETY: see at the top of this implementation.
            unsafe {
                _mm256_storeu_ps(start, self.0);
                _mm256_storeu_ps(start.add(8), self.1);
            }
        }
    }
}
