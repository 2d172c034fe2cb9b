//! Plain Rust, compiled for each set of instructions.

/// Declares a function that is compiled for each [`crate::Isa`] and takes one as its first argument. Rust neither reorders
/// sums of floats nor fuses what is not written as fused, so that vectors change the time alone.
///
/// What the body calls is compiled along with it only where it is inlined: it is to be `#[inline(always)]`.
macro_rules! compiled {
    (
        $(#[$note:meta])*
        fn $name:ident $([const $count:ident: usize])? ($($argument:ident: $kind:ty),* $(,)?) $(-> $result:ty)? $body:block
    ) => {
        $(#[$note])*
        #[expect(clippy::allow_attributes, reason = "some of these have many arguments, others have not")]
        #[allow(clippy::too_many_arguments)]
        fn $name $(<const $count: usize>)? (isa: crate::Isa, $($argument: $kind),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn plain $(<const $count: usize>)? ($($argument: $kind),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx512 $(<const $count: usize>)? ($($argument: $kind),*) $(-> $result)? {
                plain $(::<$count>)? ($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2 $(<const $count: usize>)? ($($argument: $kind),*) $(-> $result)? {
                plain $(::<$count>)? ($($argument),*)
            }

            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: this processor has them, or there would be no such `Isa`.
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

pub(crate) use compiled;
