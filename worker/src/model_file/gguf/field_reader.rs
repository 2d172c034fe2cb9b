//! Reads the little-endian fields of a header one after the other, and never beyond the end of the file.

use rbee_schema::Failure;

use crate::model_file::error::invalid;

/// The bytes of a file and the position of the next field.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldReader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> FieldReader<'a> {
    /// Starts at the first byte of a file.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Number of bytes that have been read.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Number of bytes that have not been read.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// Reads the next `count` bytes. `name` names the field in the failure.
    ///
    /// # Errors
    /// `model-invalid` if fewer bytes remain. The other functions fail in the same way.
    pub(super) fn take(&mut self, count: u64, name: &str) -> Result<&'a [u8], Failure> {
        let taken = usize::try_from(count).ok().and_then(|count| self.bytes[self.position..].get(..count));
        let taken = taken.ok_or_else(|| self.truncated(format_args!("{name} of {count} bytes")))?;
        self.position += taken.len();
        Ok(taken)
    }

    /// Reads a field of a fixed size.
    pub(super) fn array<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], Failure> {
        let taken = self.bytes[self.position..].first_chunk();
        let taken = *taken.ok_or_else(|| self.truncated(format_args!("a field of {SIZE} bytes")))?;
        self.position += SIZE;
        Ok(taken)
    }

    /// Reads a 32-bit number.
    pub(super) fn u32(&mut self) -> Result<u32, Failure> {
        self.array().map(u32::from_le_bytes)
    }

    /// Reads a 64-bit number.
    pub(super) fn u64(&mut self) -> Result<u64, Failure> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads the number of elements that follow, each of which takes at least `smallest` bytes in the file.
    ///
    /// The count is at most `largest` and at most what the file can hold, so that memory can be allocated for it.
    pub(super) fn count(&mut self, elements: &str, smallest: usize, largest: usize) -> Result<usize, Failure> {
        let (position, count) = (self.position, self.u64()?);
        if count > largest as u64 {
            return Err(invalid(format!(
                "the header announces {count} {elements} at byte {position}: expected at most {largest}"
            )));
        }
        let count = count as usize;
        match count.checked_mul(smallest) {
            Some(needed) if needed <= self.remaining() => Ok(count),
            _ => Err(self.truncated(format_args!("{count} {elements}, each of {smallest} bytes or more"))),
        }
    }

    /// Reads a text with its length before it. Invalid UTF-8 becomes U+FFFD, as in other GGUF readers.
    pub(super) fn text(&mut self) -> Result<String, Failure> {
        let length = self.u64()?;
        Ok(String::from_utf8_lossy(self.take(length, "a text")?).into_owned())
    }

    fn truncated(&self, expected: std::fmt::Arguments<'_>) -> Failure {
        let (position, remaining) = (self.position, self.remaining());
        invalid(format!(
            "the header is truncated or damaged: it announces {expected} at byte {position}, but {remaining} bytes remain; \
             copy or download the file again"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_beyond_the_end() {
        let bytes = [3, 0, 0, 0, 0, 0, 0, 0, b'a', b'b', b'c', 9];
        let mut fields = FieldReader::new(&bytes);
        assert_eq!(fields.text().as_deref(), Ok("abc"));
        assert_eq!((fields.position(), fields.remaining()), (11, 1));
        assert!(fields.u32().expect_err("one byte").message.contains("a field of 4 bytes at byte 11, but 1 bytes"));
        let failure = fields.take(u64::MAX, "a text").expect_err("one byte");
        assert!(failure.message.contains("a text of 18446744073709551615 bytes at byte 11"), "{failure}");
        assert_eq!(fields.array(), Ok([9]));
    }

    #[test]
    fn count_is_limited_by_the_size_of_the_file() {
        for (count, expected) in [(0, Ok(0)), (2, Ok(2)), (3, Err("3 things, each of 4 bytes or more at byte 8"))] {
            let bytes = [&u64::to_le_bytes(count)[..], &[0; 9]].concat();
            let found = FieldReader::new(&bytes).count("things", 4, 100);
            match expected {
                Ok(expected) => assert_eq!(found, Ok(expected)),
                Err(words) => assert!(found.expect_err(words).message.contains(words)),
            }
        }
        for (count, words) in [(5, "5 things at byte 0: expected at most 4"), (u64::MAX, "expected at most 4")] {
            let failure = FieldReader::new(&count.to_le_bytes()).count("things", 0, 4).expect_err(words);
            assert!(failure.message.contains(words), "{failure}");
        }
    }
}
