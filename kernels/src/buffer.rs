//! Memory for many numbers: the weights of a matrix, a page of keys and values.

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    ptr::NonNull,
};

use crate::huge::{self, HUGE};

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
        let layout = Layout::from_size_align(bytes.max(1), alignment).expect("it is smaller than memory");
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        if alignment == HUGE {
            huge::ask(start.as_ptr(), bytes);
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
