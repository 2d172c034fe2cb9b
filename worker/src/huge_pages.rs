//! Whether weights and cache are in huge pages.

use std::fs;

use clap::ValueEnum;
use tracing::info;

/// What the kernel says of its huge pages, such as `always [madvise] never`
/// (<https://docs.kernel.org/admin-guide/mm/transhuge.html>).
const KERNEL: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// The option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HugePages {
    On,
    Off,
}

impl HugePages {
    /// Says it to whoever takes memory, and tells where the kernel has none.
    pub(crate) fn take_effect(self) {
        rbee_kernels::set_huge_pages(self == Self::On);
        if self == Self::On && gives_none(fs::read_to_string(KERNEL).ok().as_deref()) {
            info!(
                "the kernel gives no huge pages ({KERNEL} is `never` or not there); weights and cache are in small ones"
            );
        }
    }
}

/// Whether a kernel that says this, or nothing, has no huge pages for us.
fn gives_none(said: Option<&str>) -> bool {
    said.is_none_or(|said| said.contains("[never]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_says_never_or_nothing_has_no_huge_pages() {
        for (said, expected) in [
            (Some("always [madvise] never\n"), false),
            (Some("[always] madvise never\n"), false),
            (Some("always madvise [never]\n"), true),
            (None, true),
        ] {
            assert_eq!(gives_none(said), expected, "{said:?}");
        }
    }
}
