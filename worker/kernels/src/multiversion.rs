//! Function multiversioning: plain Rust, compiled once for each instruction set.

/// Declares a function whose body is compiled for each [`crate::Isa`], and whose first argument selects the version.
///
/// Rust neither reorders sums of floats nor fuses what is not written as fused, so the versions compute the same bits;
/// vectors change only the time.
///
/// A function that the body calls is compiled for the instruction set only if it is inlined: mark it `#[inline(always)]`.
macro_rules! multiversioned {
    (
        $(#[$note:meta])*
        fn $name:ident $([const $count:ident: usize])? ($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block
    ) => {
        $(#[$note])*
        #[expect(clippy::allow_attributes, reason = "only some of the declared functions have too many arguments")]
        #[allow(clippy::too_many_arguments)]
        fn $name $(<const $count: usize>)? (isa: crate::Isa, $($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn plain $(<const $count: usize>)? ($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx512 $(<const $count: usize>)? ($($argument: $type),*) $(-> $result)? {
                plain $(::<$count>)? ($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2 $(<const $count: usize>)? ($($argument: $type),*) $(-> $result)? {
                plain $(::<$count>)? ($($argument),*)
            }

            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an `Isa` value exists only if the processor has its instructions.
                crate::Isa::Avx512 | crate::Isa::Amx => unsafe { avx512 $(::<$count>)? ($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                crate::Isa::Avx2 => unsafe { avx2 $(::<$count>)? ($($argument),*) },
                #[cfg(not(target_arch = "x86_64"))]
                crate::Isa::Avx2 | crate::Isa::Avx512 | crate::Isa::Amx => plain $(::<$count>)? ($($argument),*),
                crate::Isa::Portable => plain $(::<$count>)? ($($argument),*),
            }
        }
    };
}

pub(crate) use multiversioned;
