//! Instruction sets, detected at run time.

/// Instruction set that kernels may use. A later variant includes the earlier ones.
///
/// Take values from [`Isa::detect`] or [`Isa::all`]: kernels trust that the processor has the instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust, for every processor.
    Portable,
    /// 256-bit vectors: AVX2, FMA and F16C.
    Avx2,
    /// 512-bit vectors with dot products of bytes: AVX-512 F, BW, DQ, VL and VNNI.
    Avx512,
    /// `Avx512` with products of matrices of bytes: AMX-INT8.
    Amx,
}

impl Isa {
    /// The most capable instruction set of this processor and its operating system.
    #[must_use]
    pub fn detect() -> Self {
        Self::all().last().copied().unwrap_or(Self::Portable)
    }

    /// All instruction sets of this processor, the least capable first.
    #[must_use]
    pub fn all() -> &'static [Self] {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
            let has_512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            return match (has_512, has_512 && has_amx()) {
                (_, true) => &[Self::Portable, Self::Avx2, Self::Avx512, Self::Amx],
                (true, false) => &[Self::Portable, Self::Avx2, Self::Avx512],
                (false, false) => &[Self::Portable, Self::Avx2],
            };
        }
        &[Self::Portable]
    }
}

/// True if the processor has AMX and the operating system lets this process use it. Linux must be asked once per process,
/// because AMX adds 8 KiB to the state of each thread that uses it.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn has_amx() -> bool {
    static ALLOWED: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
        // CPUID leaf 7, EDX: bit 24 is AMX-TILE, bit 25 AMX-INT8.
        let features = std::arch::x86_64::__cpuid_count(7, 0).edx;
        features >> 24 & 3 == 3 && request_tile_data()
    });
    *ALLOWED
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn has_amx() -> bool {
    false
}

/// Calls `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)` (Linux, Documentation/arch/x86/xstate.rst). Returns false if
/// the kernel or the processor has no tile registers.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn request_tile_data() -> bool {
    // Number of the system call `arch_prctl`, then its result.
    let mut result: i64 = 158;
    // SAFETY: this system call reads and writes no memory of the process. The kernel preserves all registers but rax, rcx
    // and r11, which are declared as clobbered.
    unsafe {
        std::arch::asm!(
            "syscall", inout("rax") result, in("rdi") 0x1023, in("rsi") 18, lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}
