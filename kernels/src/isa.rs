//! Which vector instructions there are.

/// A set of instructions that kernels were written for; a later one can do more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust.
    Portable,
    /// 256-bit vectors: AVX2, FMA and F16C.
    Avx2,
    /// 512-bit vectors with dot products of bytes: AVX-512 F, BW, DQ, VL and VNNI.
    Avx512,
}

impl Isa {
    /// The best that this processor and its operating system can do.
    #[must_use]
    pub fn detect() -> Self {
        Self::all().last().copied().unwrap_or(Self::Portable)
    }

    /// All that this processor can do, worst first.
    #[must_use]
    pub fn all() -> &'static [Self] {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
            let has_512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            return if has_512 { &[Self::Portable, Self::Avx2, Self::Avx512] } else { &[Self::Portable, Self::Avx2] };
        }
        &[Self::Portable]
    }
}
