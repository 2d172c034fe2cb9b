//! Large buffers: the weights of a matrix, a page of keys and values.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

use crate::huge_pages::{self, HUGE_PAGE_BYTES};

/// Zeroed bytes, aligned to a page of memory, and to a huge page if there is at least one. Physical memory is taken as the
/// bytes are first touched.
pub(crate) struct Buffer {
    map: MmapMut,
    /// Offset of the first byte in `map`.
    start: usize,
    bytes: usize,
}

impl Buffer {
    /// Allocates `bytes` zeroed bytes.
    ///
    /// # Panics
    /// If the operating system refuses the memory.
    pub(crate) fn zeroed(bytes: usize) -> Self {
        let spare = if bytes >= HUGE_PAGE_BYTES { HUGE_PAGE_BYTES } else { 0 };
        let size = bytes.saturating_add(spare).max(1);
        let map = MmapMut::map_anon(size).unwrap_or_else(|error| panic!("cannot allocate {size} bytes: {error}"));
        let start = if spare > 0 { map.as_ptr().align_offset(HUGE_PAGE_BYTES) } else { 0 };
        huge_pages::advise(&map, start, bytes);
        Self { map, start, bytes }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[self.start..][..self.bytes]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.start..][..self.bytes]
    }
}
