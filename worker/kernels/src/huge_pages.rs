//! Huge pages of 2 MiB: with them, gigabytes of weights need far fewer page table walks than with pages of 4 KiB.

use std::sync::atomic::{AtomicBool, Ordering};

/// Size of a huge page in bytes.
pub(crate) const HUGE_PAGE_BYTES: usize = 2 << 20;

static ENABLED: AtomicBool = AtomicBool::new(true);

/// Enables or disables huge pages for memory that the process allocates from now on. Default: enabled.
pub fn set_huge_pages(enabled: bool) {
    ENABLED.store(enabled, Ordering::Relaxed);
}

/// Advises the kernel to use huge pages for `bytes` bytes of fresh memory from `start` on, which is aligned to a huge page.
/// Does nothing if there is not one whole huge page, or if they are disabled.
#[cfg(target_os = "linux")]
pub(crate) fn advise(map: &memmap2::MmapMut, start: usize, bytes: usize) {
    if bytes < HUGE_PAGE_BYTES || !ENABLED.load(Ordering::Relaxed) {
        return;
    }
    // A kernel without huge pages refuses. Small pages do the same, only slower.
    let _ = map.advise_range(memmap2::Advice::HugePage, start, bytes / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES);
}

/// Does nothing: on other systems the kernel decides alone.
#[cfg(not(target_os = "linux"))]
pub(crate) fn advise(_map: &memmap2::MmapMut, _start: usize, _bytes: usize) {}
