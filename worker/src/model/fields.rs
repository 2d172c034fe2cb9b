//! Takes the fields of a header from its bytes, little-endian, and never more of them than there are.

use rbee_schema::Failure;

use super::invalid;

/// Bytes of a file, taken from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Fields<'a> {
    /// All bytes of a file.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Bytes that were taken.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// The next bytes of this number.
    ///
    /// # Errors
    /// `model-invalid` if there are fewer; so for the other functions.
    pub(super) fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8], Failure> {
        let taken = usize::try_from(count).ok().and_then(|count| self.bytes[self.position..].get(..count));
        let taken = taken.ok_or_else(|| self.truncated(format_args!("{what} of {count} bytes")))?;
        self.position += taken.len();
        Ok(taken)
    }

    /// A field of fixed size.
    pub(super) fn array<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], Failure> {
        let taken = self.bytes[self.position..].first_chunk();
        let taken = *taken.ok_or_else(|| self.truncated(format_args!("a field of {SIZE} bytes")))?;
        self.position += SIZE;
        Ok(taken)
    }

    /// A number of 32 bits.
    pub(super) fn u32(&mut self) -> Result<u32, Failure> {
        self.array().map(u32::from_le_bytes)
    }

    /// A number of 64 bits.
    pub(super) fn u64(&mut self) -> Result<u64, Failure> {
        self.array().map(u64::from_le_bytes)
    }

    /// How many things follow, each of which takes at least `smallest` bytes: no more than the file can hold, and no
    /// more than `most`. So memory may be set aside for them.
    pub(super) fn count(&mut self, what: &str, smallest: usize, most: usize) -> Result<usize, Failure> {
        let (place, count) = (self.position, self.u64()?);
        if count > most as u64 {
            return Err(invalid(format!("its header says {count} {what} at byte {place}: expected at most {most}")));
        }
        let count = count as usize;
        match count.checked_mul(smallest) {
            Some(needed) if needed <= self.left() => Ok(count),
            _ => Err(self.truncated(format_args!("{count} {what}, each of {smallest} bytes or more"))),
        }
    }

    /// A text with its length before it. Bytes that are no UTF-8 become U+FFFD, as in every other reader.
    pub(super) fn text(&mut self) -> Result<String, Failure> {
        let length = self.u64()?;
        Ok(String::from_utf8_lossy(self.take(length, "a text")?).into_owned())
    }

    fn truncated(&self, wanted: std::fmt::Arguments<'_>) -> Failure {
        let (place, left) = (self.position, self.left());
        invalid(format!(
            "its header is truncated or damaged: it says {wanted} at byte {place}, but {left} bytes are left; copy or \
             download it again"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_beyond_the_end() {
        let bytes = [3, 0, 0, 0, 0, 0, 0, 0, b'a', b'b', b'c', 9];
        let mut fields = Fields::new(&bytes);
        assert_eq!(fields.text().as_deref(), Ok("abc"));
        assert_eq!((fields.position(), fields.left()), (11, 1));
        assert!(fields.u32().expect_err("one byte").message.contains("a field of 4 bytes at byte 11, but 1 bytes"));
        assert!(fields.take(u64::MAX, "a text").is_err());
        assert_eq!(fields.array(), Ok([9]));
    }

    #[test]
    fn a_count_is_no_more_than_the_file_holds() {
        for (count, allowed) in [(0, true), (2, true), (3, false), (u64::MAX, false)] {
            let bytes = [&count.to_le_bytes()[..], &[0; 9]].concat();
            assert_eq!(Fields::new(&bytes).count("things", 4, 100).is_ok(), allowed, "{count}");
        }
        let failure = Fields::new(&5u64.to_le_bytes()).count("things", 0, 4).expect_err("more than 4");
        assert!(failure.message.contains("5 things at byte 0: expected at most 4"), "{failure}");
    }
}
