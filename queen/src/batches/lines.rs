//! The lines of a file of requests. Blank lines do not count.

use bytes::{Bytes, BytesMut};
use rbee_nats::{ObjectError, PieceReader};

/// A line with its number, from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawLine {
    pub(super) number: u64,
    pub(super) content: LineContent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LineContent {
    /// The line without its end.
    Whole(Bytes),
    /// The line has more bytes than a request may have.
    TooLong,
}

/// Reader of lines. It holds one line, and a few megabytes of the file.
pub(super) struct LineReader {
    pieces: PieceReader,
    splitter: Splitter,
    is_read: bool,
}

impl LineReader {
    /// Reads the lines of a file; longer ones than `limit` bytes are too long.
    pub(super) fn new(pieces: PieceReader, limit: usize) -> Self {
        Self { pieces, splitter: Splitter::new(limit), is_read: false }
    }

    /// Next line. `None` at the end of the file.
    ///
    /// # Errors
    /// The file is missing or corrupt, or the server does not answer.
    pub(super) async fn next(&mut self) -> Result<Option<RawLine>, ObjectError> {
        loop {
            if let Some(line) = self.splitter.next() {
                return Ok(Some(line));
            }
            if self.is_read {
                return Ok(self.splitter.last());
            }
            match self.pieces.next().await? {
                Some(piece) => self.splitter.add(&piece),
                None => self.is_read = true,
            }
        }
    }
}

/// Splits pieces of a file into lines.
#[derive(Debug, Default)]
struct Splitter {
    limit: usize,
    rest: BytesMut,
    /// Length of the beginning of `rest` that has no end of a line.
    searched: usize,
    /// True if the beginning of the current line was dropped, because the line is too long.
    is_too_long: bool,
    number: u64,
}

impl Splitter {
    fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    fn add(&mut self, piece: &[u8]) {
        self.rest.extend_from_slice(piece);
    }

    /// Next whole line.
    fn next(&mut self) -> Option<RawLine> {
        loop {
            let Some(at) = self.rest[self.searched..].iter().position(|byte| *byte == b'\n') else {
                self.searched = self.rest.len();
                if self.searched > self.limit {
                    self.rest.clear();
                    (self.searched, self.is_too_long) = (0, true);
                }
                return None;
            };
            let line = self.rest.split_to(self.searched + at + 1);
            self.searched = 0;
            if let Some(line) = self.line(line.freeze().slice(..)) {
                return Some(line);
            }
        }
    }

    /// The last line, which may have no end.
    fn last(&mut self) -> Option<RawLine> {
        let rest = std::mem::take(&mut self.rest).freeze();
        self.searched = 0;
        self.line(rest)
    }

    /// The line with this content; `None` for a blank one.
    fn line(&mut self, content: Bytes) -> Option<RawLine> {
        let is_too_long = std::mem::take(&mut self.is_too_long) || content.len() > self.limit + 1;
        if !is_too_long && content.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        let content = if is_too_long { LineContent::TooLong } else { LineContent::Whole(trimmed(content)) };
        let number = self.number;
        self.number += 1;
        Some(RawLine { number, content })
    }
}

/// A line without white space at its end.
fn trimmed(line: Bytes) -> Bytes {
    let length = line.trim_ascii_end().len();
    line.slice(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&str], limit: usize) -> Vec<(u64, Option<String>)> {
        let (mut splitter, mut lines) = (Splitter::new(limit), Vec::new());
        for piece in pieces {
            splitter.add(piece.as_bytes());
            lines.extend(std::iter::from_fn(|| splitter.next()));
        }
        lines.extend(splitter.last());
        let text = |content| match content {
            LineContent::Whole(line) => Some(String::from_utf8_lossy(&line).into_owned()),
            LineContent::TooLong => None,
        };
        lines.into_iter().map(|line| (line.number, text(line.content))).collect()
    }

    fn whole(lines: &[&str]) -> Vec<(u64, Option<String>)> {
        (0..).zip(lines.iter().map(|line| Some((*line).to_owned()))).collect()
    }

    #[test]
    fn lines_are_numbered_without_blank_ones() {
        for pieces in
            [&["a\nb\nc"][..], &["a\n", "b\n", "c\n"], &["a", "\n\n \r\nb\r", "\nc"], &["\n\na\nb", "\nc", ""]]
        {
            assert_eq!(split(pieces, 10), whole(&["a", "b", "c"]), "{pieces:?}");
        }
        assert_eq!(split(&["", "\n \n"], 10), []);
    }

    #[test]
    fn line_that_is_too_long_is_skipped_and_counted() {
        let expected = vec![(0, Some("ab".to_owned())), (1, None), (2, Some("c".to_owned()))];
        for pieces in [&["ab\nabcdefgh\nc\n"][..], &["ab\nabcd", "efgh", "ijkl\nc"], &["ab\nabcdefghijkl", "\nc"]] {
            assert_eq!(split(pieces, 4), expected, "{pieces:?}");
        }
        assert_eq!(split(&["abcdefgh"], 4), [(0, None)]);
        assert_eq!(split(&["abcd"], 4), whole(&["abcd"]));
    }
}
