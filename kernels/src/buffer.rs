//! Memory for the weights of a matrix.

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    ptr::NonNull,
};

/// The size of a huge page. With them, the processor finds where gigabytes of weights are without a walk for each 4 KiB.
const HUGE: usize = 2 << 20;
/// A line of the cache, and the widest vector.
const ALIGNMENT: usize = 64;

/// Bytes at the start of a line, in huge pages where the operating system has some.
pub(crate) struct Buffer {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a buffer owns its bytes, as a `Vec<u8>` does.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Bytes that hold nothing yet: whoever fills them must do so before anyone reads them.
    pub(crate) fn new(bytes: usize) -> Self {
        let alignment = if bytes >= HUGE { HUGE } else { ALIGNMENT };
        let layout = Layout::from_size_align(bytes.max(1), alignment).expect("a matrix is smaller than memory");
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        if alignment == HUGE {
            ask_for_huge_pages(start, bytes);
        }
        Self { start, layout }
    }

    pub(crate) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.layout.size()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

#[cfg(target_os = "linux")]
fn ask_for_huge_pages(start: NonNull<u8>, bytes: usize) {
    let bytes = bytes / HUGE * HUGE;
    // SAFETY: the whole pages within a fresh allocation; how large they are changes nothing in what they hold.
    let asked = unsafe { rustix::mm::madvise(start.as_ptr().cast(), bytes, rustix::mm::Advice::LinuxHugepage) };
    // A kernel without huge pages refuses; small ones do as well, only slower.
    let _ = asked;
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages(_start: NonNull<u8>, _bytes: usize) {}
