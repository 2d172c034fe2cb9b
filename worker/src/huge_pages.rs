//! Huge pages for weights and KV cache.

use std::fs;

use clap::ValueEnum;
use tracing::info;

/// Setting of the kernel for transparent huge pages, such as `always [madvise] never`
/// (<https://docs.kernel.org/admin-guide/mm/transhuge.html>).
const KERNEL_SETTING: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// Value of the option `--huge-pages`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HugePages {
    On,
    Off,
}

impl HugePages {
    /// Applies the option to later allocations, and logs if the kernel does not offer huge pages.
    pub(crate) fn apply(self) {
        rbee_kernels::set_huge_pages(self == Self::On);
        if self == Self::On && are_unavailable(fs::read_to_string(KERNEL_SETTING).ok().as_deref()) {
            info!(
                "the kernel offers no huge pages ({KERNEL_SETTING} is `never` or does not exist); weights and KV cache use \
                 normal pages"
            );
        }
    }
}

/// True if the kernel with this setting, or without one, offers no huge pages.
fn are_unavailable(setting: Option<&str>) -> bool {
    setting.is_none_or(|setting| setting.contains("[never]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_with_never_or_without_a_setting_has_no_huge_pages() {
        for (setting, expected) in [
            (Some("always [madvise] never\n"), false),
            (Some("[always] madvise never\n"), false),
            (Some("always madvise [never]\n"), true),
            (None, true),
        ] {
            assert_eq!(are_unavailable(setting), expected, "{setting:?}");
        }
    }
}
