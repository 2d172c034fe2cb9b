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

/// Asks for huge pages for fresh memory, where they are wanted.
#[cfg(target_os = "linux")]
pub(crate) fn ask(start: *mut u8, bytes: usize) {
    if !WANTED.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: the whole pages within a fresh allocation; how large they are changes nothing in what they hold.
    let asked = unsafe { rustix::mm::madvise(start.cast(), bytes / HUGE * HUGE, rustix::mm::Advice::LinuxHugepage) };
    // A kernel without huge pages refuses; small ones do as well, only slower.
    let _ = asked;
}

/// Elsewhere the operating system decides by itself.
#[cfg(not(target_os = "linux"))]
pub(crate) fn ask(_start: *mut u8, _bytes: usize) {}
