//! Plain Rust, compiled for each set of instructions.

use crate::Isa;

/// Calls `work`, compiled for `isa`. Rust neither reorders sums of floats nor fuses what is not written as fused, so that
/// vectors change the time alone.
#[inline(always)]
pub(crate) fn compiled<R>(isa: Isa, work: impl FnOnce() -> R) -> R {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this processor has them, or there would be no such `Isa`.
        Isa::Avx512 => unsafe { avx512(work) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { avx2(work) },
        _ => work(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}
