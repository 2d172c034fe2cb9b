//! 16-bit numbers in memory of their own, in huge pages where there are so many.

use std::{
    ops::{Deref, DerefMut},
    slice,
};

use crate::buffer::Buffer;

/// So many numbers, as a boxed slice.
pub struct Numbers {
    buffer: Buffer,
    count: usize,
}

impl Numbers {
    /// All of them zero.
    #[must_use]
    pub fn zeroed(count: usize) -> Self {
        Self { buffer: Buffer::zeroed(count * size_of::<u16>()), count }
    }
}

impl Deref for Numbers {
    type Target = [u16];

    fn deref(&self) -> &[u16] {
        // SAFETY: the buffer has room for so many, and begins at a page of memory.
        unsafe { slice::from_raw_parts(self.buffer.as_ptr().cast(), self.count) }
    }
}

impl DerefMut for Numbers {
    fn deref_mut(&mut self) -> &mut [u16] {
        // SAFETY: as above.
        unsafe { slice::from_raw_parts_mut(self.buffer.as_mut_ptr().cast(), self.count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_zero_and_keep_what_is_written() {
        for count in [0, 1, 1000, 3 << 20] {
            let mut numbers = Numbers::zeroed(count);
            assert!(numbers.iter().all(|number| *number == 0));
            numbers.iter_mut().zip(0..).for_each(|(number, value)| *number = value as u16);
            assert!(numbers.iter().zip(0..).all(|(number, value)| *number == value as u16));
        }
    }
}
