//! Large arrays of 16-bit floats.

use std::{
    ops::{Deref, DerefMut},
    slice,
};

use crate::buffer::Buffer;

/// Bits of 16-bit floats, like a boxed slice, in huge pages if it is large enough.
pub struct F16Buffer {
    buffer: Buffer,
    count: usize,
}

impl F16Buffer {
    /// Allocates `count` zeros.
    #[must_use]
    pub fn zeroed(count: usize) -> Self {
        Self { buffer: Buffer::zeroed(count * size_of::<u16>()), count }
    }
}

impl Deref for F16Buffer {
    type Target = [u16];

    fn deref(&self) -> &[u16] {
        // SAFETY: the buffer has `count * 2` initialized bytes and starts at a page of memory, so it is aligned.
        unsafe { slice::from_raw_parts(self.buffer.as_ptr().cast(), self.count) }
    }
}

impl DerefMut for F16Buffer {
    fn deref_mut(&mut self) -> &mut [u16] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.buffer.as_mut_ptr().cast(), self.count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_starts_with_zeros_and_keeps_what_is_written() {
        for count in [0, 1, 1000, 3 << 20] {
            let mut buffer = F16Buffer::zeroed(count);
            assert!(buffer.iter().all(|number| *number == 0));
            buffer.iter_mut().zip(0..).for_each(|(number, value)| *number = value as u16);
            assert!(buffer.iter().zip(0..).all(|(number, value)| *number == value as u16));
        }
    }
}
