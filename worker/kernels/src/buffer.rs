//! Memory for many numbers: the weights of a matrix, a page of keys and values.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

use crate::huge::{self, HUGE};

/// Bytes from the start of a page of memory on, in huge pages where the operating system has some. They are zero at first, and
/// take memory as they are first looked at.
pub(crate) struct Buffer {
    map: MmapMut,
    /// Where the bytes begin in it.
    start: usize,
    bytes: usize,
}

impl Buffer {
    /// So many bytes.
    ///
    /// # Panics
    /// If the process may not have that many.
    pub(crate) fn zeroed(bytes: usize) -> Self {
        let spare = if bytes >= HUGE { HUGE } else { 0 };
        let size = bytes.saturating_add(spare).max(1);
        let map =
            MmapMut::map_anon(size).unwrap_or_else(|error| panic!("{size} bytes of memory were asked for: {error}"));
        let start = if spare > 0 { map.as_ptr().align_offset(HUGE) } else { 0 };
        huge::ask(&map, start, bytes);
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
