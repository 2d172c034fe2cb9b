//! Finds tokens by their text, and escapes messages so that they cannot contain control tokens.
//!
//! A chat template writes control tokens such as `<|im_end|>` as text. The same text in a message must stay text: otherwise the
//! author of a message could end it and speak as another role. Templates trim, split and compare messages, so messages
//! cannot be wrapped in marks or tokenized separately. Instead each message is escaped before it is rendered: a character that
//! occurs in no message is put after the first character of every control token in it. The rendered text then has whole
//! control tokens only where the template wrote them. After the text is split at those, the escape characters are removed.

use std::collections::{BTreeMap, HashMap};

use rbee_schema::{Failure, FailureCode};

/// A set of tokens that are found by their text.
#[derive(Debug, Clone, Default)]
pub struct TokenMatcher {
    tokens: HashMap<Box<str>, u32>,
    /// For each first byte, the lengths in bytes of the tokens that begin with it, in descending order, because the
    /// longest match counts. Some vocabularies have thousands of tokens with the same first byte, and only a few lengths.
    lengths: BTreeMap<u8, Vec<usize>>,
}

/// A part of a text that was split at tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment<'a> {
    /// Text between tokens.
    Text(&'a str),
    /// Id of a token.
    Token(u32),
}

impl TokenMatcher {
    /// Builds a matcher from texts and ids. Empty texts are ignored; of equal texts the first counts.
    pub fn new(tokens: impl IntoIterator<Item = (String, u32)>) -> Self {
        let mut matcher = Self::default();
        for (text, id) in tokens {
            let Some(first) = text.bytes().next() else { continue };
            let lengths = matcher.lengths.entry(first).or_default();
            // Compares in reverse, because the list is in descending order.
            if let Err(index) = lengths.binary_search_by(|length| text.len().cmp(length)) {
                lengths.insert(index, text.len());
            }
            matcher.tokens.entry(text.into()).or_insert(id);
        }
        matcher
    }

    /// Id and length in bytes of the longest token with which a text begins.
    fn match_start(&self, text: &str) -> Option<(u32, usize)> {
        let lengths = self.lengths.get(text.as_bytes().first()?)?;
        lengths.iter().find_map(|&length| Some((*self.tokens.get(text.get(..length)?)?, length)))
    }

    /// True if a token begins with the text.
    fn has_prefix(&self, text: &str) -> bool {
        let longest = text.bytes().next().and_then(|first| self.lengths.get(&first)?.first());
        longest.is_none_or(|&longest| text.len() <= longest) && self.tokens.keys().any(|token| token.starts_with(text))
    }

    /// Id of the token with exactly this text.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.tokens.get(text).copied()
    }

    /// True if there is a token with exactly this text.
    pub fn contains(&self, text: &str) -> bool {
        self.tokens.contains_key(text)
    }

    /// Splits a text at its tokens. No segment is empty.
    pub fn split<'a>(&self, text: &'a str) -> Vec<Segment<'a>> {
        let (mut segments, mut start, mut position) = (Vec::new(), 0, 0);
        while let Some(found) = self.next_candidate(text, position) {
            let Some((id, length)) = self.match_start(&text[found..]) else {
                position = found + 1;
                continue;
            };
            if start < found {
                segments.push(Segment::Text(&text[start..found]));
            }
            segments.push(Segment::Token(id));
            start = found + length;
            position = start;
        }
        if start < text.len() {
            segments.push(Segment::Text(&text[start..]));
        }
        segments
    }

    /// Puts the character `escape` into every token in the text, and into a possible beginning of a token at its end.
    pub fn escape(&self, text: &str, escape: char) -> String {
        let (mut escaped, mut copied, mut position) = (String::with_capacity(text.len()), 0, 0);
        // Templates trim messages, so text before trailing white space can become the end of a message.
        let end = text.trim_end().len();
        while let Some(found) = self.next_candidate(text, position) {
            position = found + 1;
            let rest = &text[found..];
            if self.match_start(rest).is_some() || self.has_prefix(&text[found..end.max(found)]) {
                let after_first = found + rest.chars().next().map_or(0, char::len_utf8);
                escaped.push_str(&text[copied..after_first]);
                escaped.push(escape);
                copied = after_first;
            }
        }
        escaped.push_str(&text[copied..]);
        escaped
    }

    /// Next position, at or after `from`, of a byte with which a token begins.
    fn next_candidate(&self, text: &str, from: usize) -> Option<usize> {
        let bytes = text.as_bytes().get(from..)?;
        let mut found = bytes.iter().enumerate().filter(|(_, byte)| self.lengths.contains_key(byte));
        // The first byte of a token is never a continuation byte, so the position is at the start of a character.
        found.next().map(|(offset, _)| from + offset)
    }
}

/// Finds a character that does not occur in the text.
///
/// # Errors
/// `invalid-request` if the text contains all noncharacters and private characters, which does not happen by accident.
pub(super) fn unused_character(text: &str) -> Result<char, Failure> {
    // Unicode reserves U+FDD0 to U+FDEF for internal use of programs: they have no meaning in a text.
    let mut candidates = ('\u{FDD0}'..='\u{FDEF}').chain('\u{E000}'..='\u{F8FF}');
    let unused = candidates.find(|&candidate| !text.contains(candidate));
    unused.ok_or_else(|| {
        Failure::new(FailureCode::InvalidRequest, "the chat contains every character of Unicode's private areas")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens() -> TokenMatcher {
        let texts = ["<|end|>", "<|end|>x", "<s>", "", "蜂蜂"];
        TokenMatcher::new(texts.into_iter().map(str::to_owned).zip(1..))
    }

    #[test]
    fn text_is_split_at_its_tokens() {
        use Segment::{Text, Token};
        for (text, expected) in [
            ("", &[][..]),
            ("plain", &[Text("plain")]),
            ("a<|end|>b<s>", &[Text("a"), Token(1), Text("b"), Token(3)]),
            ("<|end|>x", &[Token(2)]),
            ("<<s>蜂蜂蜂", &[Text("<"), Token(3), Token(5), Text("蜂")]),
        ] {
            assert_eq!(tokens().split(text), expected, "{text}");
        }
    }

    #[test]
    fn tokens_and_beginnings_of_tokens_are_escaped() {
        for (text, expected) in [
            ("a<|end|>b", "a<#|end|>b"),
            ("a < b", "a < b"),
            ("a <", "a <#"),
            ("a <|e  ", "a <#|e  "),
            ("<<s>", "<<#s>"),
            ("蜂蜂蜂", "蜂#蜂#蜂#"),
        ] {
            assert_eq!(tokens().escape(text, '#'), expected, "{text}");
        }
    }

    #[test]
    fn escape_character_does_not_occur_in_the_text() {
        assert_eq!(unused_character("Hi"), Ok('\u{FDD0}'));
        assert_eq!(unused_character("\u{FDD1}, \u{FDD0}"), Ok('\u{FDD2}'));
    }

    proptest! {
        #[test]
        fn escaped_text_has_no_token_and_loses_nothing(
            text in "([<|>endsx蜂 ]|<s>|<\\|end\\|>){0,12}",
            before in "(<s>|[a蜂]){0,2}",
            after in "(<\\|end\\|>|[a ]){0,2}",
        ) {
            let escaped = tokens().escape(&text, '\u{FDD0}');
            prop_assert_eq!(escaped.replace('\u{FDD0}', ""), text);
            let is_token = |segment: &Segment<'_>| matches!(segment, Segment::Token(_));
            let ids = |text: &str| tokens().split(text).into_iter().filter(is_token).count();
            prop_assert_eq!(ids(&escaped), 0);
            prop_assert_eq!(ids(&format!("{escaped}{after}")), ids(&after), "whatever the template writes behind it");
            prop_assert_eq!(ids(&format!("{before}|{}", escaped.trim())), ids(&before));
        }
    }
}
