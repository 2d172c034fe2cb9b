//! Huge pages: with them, the processor finds where gigabytes are without a walk for each 4 KiB.

use std::sync::atomic::{AtomicBool, Ordering};

/// The size of one.
pub(crate) const HUGE: usize = 2 << 20;

static WANTED: AtomicBool = AtomicBool::new(true);

/// Whether memory that is taken from now on, by the whole process, is asked to be in huge pages. It is unless somebody says
/// otherwise.
pub fn want_huge_pages(wanted: bool) {
    WANTED.store(wanted, Ordering::Relaxed);
}

/// Asks for huge pages for fresh memory, as far as it has whole ones and they are wanted.
#[cfg(target_os = "linux")]
pub(crate) fn ask(map: &memmap2::MmapMut, start: usize, bytes: usize) {
    if bytes < HUGE || !WANTED.load(Ordering::Relaxed) {
        return;
    }
    // A kernel without huge pages refuses; small ones do as well, only slower.
    let _ = map.advise_range(memmap2::Advice::HugePage, start, bytes / HUGE * HUGE);
}

/// Elsewhere the operating system decides by itself.
#[cfg(not(target_os = "linux"))]
pub(crate) fn ask(_map: &memmap2::MmapMut, _start: usize, _bytes: usize) {}
