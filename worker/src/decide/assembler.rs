//! Assembles the bytes of tokens into text that is final.
//!
//! A token may contain half a character, and several tokens may contain half a stop string. Released text is never taken
//! back: a character is released as a whole, and text that could become a stop string is held back until it cannot.
//! Bytes that are not UTF-8 become U+FFFD, as in [`String::from_utf8_lossy`].
//!
//! The text depends on the bytes alone and not on how they are split into tokens. A worker that resumes a job replays the
//! tokens so far through a new [`Assembler`], which releases exactly the text that was released before.

/// Assembles the bytes of tokens into text, up to a stop string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembler {
    stops: Vec<String>,
    /// The beginning of a character whose end is missing; at most 3 bytes.
    partial: Vec<u8>,
    /// Text that could become a stop string and is held back.
    held: String,
    stopped: bool,
}

/// Text that became final with a token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Released {
    /// Text that follows the text released before.
    pub text: String,
    /// True if a stop string was found. It is not part of the text, and nothing is released after it.
    pub stopped: bool,
}

impl Assembler {
    /// An assembler without text. Empty stop strings are ignored.
    pub fn new(stops: impl IntoIterator<Item = String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stops, partial: Vec::new(), held: String::new(), stopped: false }
    }

    /// Adds the bytes of the next token.
    pub fn push(&mut self, bytes: &[u8]) -> Released {
        if !self.stopped {
            self.partial.extend_from_slice(bytes);
            self.decode();
        }
        self.release()
    }

    /// The rest of the text after the last token: held text, and U+FFFD for an incomplete character.
    pub fn finish(mut self) -> String {
        if !self.stopped {
            self.held.push_str(&String::from_utf8_lossy(&self.partial));
        }
        if let Some(start) = first_stop(&self.held, &self.stops) {
            self.held.truncate(start);
        }
        self.held
    }

    /// Moves whole characters from `partial` to `held`.
    fn decode(&mut self) {
        let mut rest = self.partial.as_slice();
        for chunk in self.partial.utf8_chunks() {
            self.held.push_str(chunk.valid());
            rest = &rest[chunk.valid().len()..];
            if rest.len() == chunk.invalid().len() && may_be_completed(rest) {
                break;
            }
            if !chunk.invalid().is_empty() {
                self.held.push(char::REPLACEMENT_CHARACTER);
            }
            rest = &rest[chunk.invalid().len()..];
        }
        self.partial = rest.to_vec();
    }

    fn release(&mut self) -> Released {
        if let Some(start) = first_stop(&self.held, &self.stops) {
            self.held.truncate(start);
            self.stopped = true;
            self.partial.clear();
            return Released { text: std::mem::take(&mut self.held), stopped: true };
        }
        let length = self.held.len() - self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let held = self.held.split_off(length);
        Released { text: std::mem::replace(&mut self.held, held), stopped: self.stopped }
    }
}

/// True if the bytes are the beginning of a character that later bytes could complete.
fn may_be_completed(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}

/// The start of the stop string that is complete first when the text is read from its beginning.
///
/// The first to be complete counts, not the first to begin. A stop string that is still incomplete when another one is
/// complete must not matter, or the answer would depend on how the text is split into tokens.
fn first_stop(text: &str, stops: &[String]) -> Option<usize> {
    let found = stops.iter().filter_map(|stop| text.find(stop.as_str()).map(|start| (start + stop.len(), start)));
    found.min().map(|(_, start)| start)
}

/// The maximum number of bytes at the end of `text` that are a beginning of `stop`.
pub(super) fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest).rev().find(|&length| text.as_bytes().ends_with(&stop.as_bytes()[..length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assembler(stops: &[&str]) -> Assembler {
        Assembler::new(stops.iter().map(|stop| (*stop).to_owned()))
    }

    /// Pushes the pieces and returns each release, then the rest.
    fn releases(stops: &[&str], pieces: &[&[u8]]) -> Vec<String> {
        let mut assembler = assembler(stops);
        let mut texts: Vec<String> = pieces.iter().map(|piece| assembler.push(piece).text).collect();
        texts.push(assembler.finish());
        texts
    }

    /// The expected text, computed from all bytes at once.
    fn whole(stops: &[String], bytes: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(bytes).into_owned();
        let end = (0..=text.len()).filter(|&end| text.is_char_boundary(end)).find_map(|end| {
            stops.iter().filter(|stop| text[..end].ends_with(stop.as_str())).map(|stop| end - stop.len()).min()
        });
        text.truncate(end.unwrap_or(text.len()));
        text
    }

    #[test]
    fn character_is_released_as_a_whole() {
        assert_eq!(releases(&[], &[b"a\xF0\x9F", b"\x90", b"\x9Db"]), ["a", "", "🐝b", ""]);
    }

    #[test]
    fn invalid_bytes_become_replacement_characters() {
        assert_eq!(releases(&[], &[b"a\xFFb"]), ["a\u{FFFD}b", ""], "as soon as the byte is known to be invalid");
        assert_eq!(
            releases(&[], &[b"a\xE9", b"\x9B"]),
            ["a", "", "\u{FFFD}"],
            "an incomplete character only at the end"
        );
        assert_eq!(releases(&[], &[b"\xE9", b"x"]), ["", "\u{FFFD}x", ""]);
    }

    #[test]
    fn stop_string_ends_the_text_and_is_not_part_of_it() {
        let mut assembler = assembler(&["END"]);
        assert_eq!(assembler.push(b"one E"), Released { text: "one ".into(), stopped: false });
        assert_eq!(assembler.push(b"ND two"), Released { text: String::new(), stopped: true });
        assert_eq!(assembler.push(b"three"), Released { text: String::new(), stopped: true });
        assert_eq!(assembler.finish(), "");
    }

    #[test]
    fn possible_stop_string_is_held_back() {
        assert_eq!(releases(&["\n\n"], &[b"a\n", b"b", b"\n"]), ["a", "\nb", "", "\n"]);
        assert_eq!(releases(&["aab"], &[b"a", b"a", b"a", b"b"]), ["", "", "a", "", ""], "the longest overlap counts");
    }

    #[test]
    fn stop_string_that_is_complete_first_counts() {
        assert_eq!(releases(&["abcd", "bc"], &[b"abcd"]), ["a", ""]);
        assert_eq!(releases(&["abcd", "bc"], &[b"ab", b"cd"]), ["", "a", ""]);
        assert_eq!(releases(&["bc", "abc"], &[b"abc"]), ["", ""], "of two that end at the same byte the longer one");
    }

    #[test]
    fn empty_stop_string_is_ignored() {
        assert_eq!(releases(&[""], &[b"a"]), ["a", ""]);
    }

    proptest! {
        #[test]
        fn text_does_not_depend_on_its_split_into_tokens(
            pieces in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..6),
                    "[ab]{0,4}".prop_map(String::into_bytes),
                    "\\PC{0,3}".prop_map(String::into_bytes),
                    Just(vec![0xF0, 0x9F]), Just(vec![0x90, 0x9D]), Just("\u{FFFD}".as_bytes().to_vec()),
                ],
                0..20,
            ),
            stops in prop::collection::vec(prop_oneof!["[ab]{1,4}", "[é🐝]{1,2}", Just("\u{FFFD}".to_owned())], 0..4),
        ) {
            let mut assembler = Assembler::new(stops.clone());
            let mut text = String::new();
            for piece in &pieces {
                text.push_str(&assembler.push(piece).text);
            }
            text.push_str(&assembler.finish());
            prop_assert_eq!(text, whole(&stops, &pieces.concat()));
        }

        #[test]
        fn replay_releases_the_same_text(pieces in prop::collection::vec("[ab🐝]{0,3}", 0..12)) {
            let mut first = assembler(&["abba"]);
            let once: Vec<Released> = pieces.iter().map(|piece| first.push(piece.as_bytes())).collect();
            let mut second = assembler(&["abba"]);
            let again: Vec<Released> = pieces.iter().map(|piece| second.push(piece.as_bytes())).collect();
            prop_assert_eq!((once, first), (again, second));
        }
    }
}
