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
    /// As `Avx512`, with products of matrices of bytes: AMX-INT8.
    Amx,
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
            return match (has_512, has_512 && may_use_tiles()) {
                (_, true) => &[Self::Portable, Self::Avx2, Self::Avx512, Self::Amx],
                (true, false) => &[Self::Portable, Self::Avx2, Self::Avx512],
                (false, false) => &[Self::Portable, Self::Avx2],
            };
        }
        &[Self::Portable]
    }
}

/// Whether there is AMX, and the operating system lets this process use it: Linux wants to be asked once, since the state of
/// a thread grows by 8 KiB.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn may_use_tiles() -> bool {
    static ALLOWED: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
        // Leaf 7: bit 24 is AMX-TILE, bit 25 AMX-INT8.
        let features = std::arch::x86_64::__cpuid_count(7, 0).edx;
        features >> 24 & 3 == 3 && ask_for_tiles()
    });
    *ALLOWED
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn may_use_tiles() -> bool {
    false
}

/// `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`, which fails where the kernel or the processor has no tiles.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn ask_for_tiles() -> bool {
    let mut result: i64 = 158;
    // SAFETY: a system call that reads no memory. The kernel keeps all registers but rax, rcx and r11.
    unsafe {
        std::arch::asm!(
            "syscall", inout("rax") result, in("rdi") 0x1023, in("rsi") 18, lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}
