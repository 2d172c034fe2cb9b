//! Tokens that stand for a fixed text, and the shield that keeps people from writing them.
//!
//! A chat template writes control tokens such as `<|im_end|>` as text. The same text in a message must stay text, or
//! whoever writes a message could end it and speak as another role. Templates trim, split and compare messages, so the
//! messages cannot be wrapped in marks or tokenised apart. Instead each message is shielded before it is rendered: a
//! character that occurs in no message is put behind the first character of every control token in it. The rendered
//! text then holds whole control tokens only where the template wrote them; once it is cut at those, the shield is
//! taken out again.

use std::collections::{BTreeMap, HashMap};

use rbee_schema::{Failure, FailureCode};

/// Tokens that are found by their text.
#[derive(Debug, Clone, Default)]
pub struct FixedTokens {
    tokens: HashMap<Box<str>, u32>,
    /// By the first byte of tokens, how many bytes such tokens have: the most first, as of two that match the longer
    /// one is meant. Some vocabularies have thousands that begin alike, and only a few lengths.
    lengths: BTreeMap<u8, Vec<usize>>,
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// To be tokenised.
    Text(&'a str),
    /// A token.
    Token(u32),
}

impl FixedTokens {
    /// From texts and ids; empty texts are ignored, and of equal ones the first counts.
    pub fn new(tokens: impl IntoIterator<Item = (String, u32)>) -> Self {
        let mut fixed = Self::default();
        for (text, id) in tokens {
            let Some(first) = text.bytes().next() else { continue };
            let lengths = fixed.lengths.entry(first).or_default();
            // The order from the most to the least is that of the complements.
            if let Err(place) = lengths.binary_search_by(|length| text.len().cmp(length)) {
                lengths.insert(place, text.len());
            }
            fixed.tokens.entry(text.into()).or_insert(id);
        }
        fixed
    }

    /// The token with which a text begins, and how many bytes it has.
    fn at_start(&self, text: &str) -> Option<(u32, usize)> {
        let lengths = self.lengths.get(text.as_bytes().first()?)?;
        lengths.iter().find_map(|&length| Some((*self.tokens.get(text.get(..length)?)?, length)))
    }

    /// Whether a token begins with the text.
    fn any_begins_with(&self, text: &str) -> bool {
        let longest = text.bytes().next().and_then(|first| self.lengths.get(&first)?.first());
        longest.is_none_or(|&longest| text.len() <= longest) && self.tokens.keys().any(|token| token.starts_with(text))
    }

    /// The token of exactly this text.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.tokens.get(text).copied()
    }

    /// Whether there is a token of exactly this text.
    pub fn contains(&self, text: &str) -> bool {
        self.tokens.contains_key(text)
    }

    /// Cuts a text at the tokens in it. No part is empty.
    pub fn split<'a>(&self, text: &'a str) -> Vec<Part<'a>> {
        let (mut parts, mut start, mut position) = (Vec::new(), 0, 0);
        while let Some(found) = self.next_candidate(text, position) {
            let Some((id, length)) = self.at_start(&text[found..]) else {
                position = found + 1;
                continue;
            };
            if start < found {
                parts.push(Part::Text(&text[start..found]));
            }
            parts.push(Part::Token(id));
            start = found + length;
            position = start;
        }
        if start < text.len() {
            parts.push(Part::Text(&text[start..]));
        }
        parts
    }

    /// Puts `shield` into every token in the text, and into what may be the beginning of one at its end.
    pub fn shield(&self, text: &str, shield: char) -> String {
        let (mut shielded, mut copied, mut position) = (String::with_capacity(text.len()), 0, 0);
        // Templates trim messages, so trailing space does not count as an end.
        let end = text.trim_end().len();
        while let Some(found) = self.next_candidate(text, position) {
            position = found + 1;
            let rest = &text[found..];
            if self.at_start(rest).is_some() || self.any_begins_with(&text[found..end.max(found)]) {
                let after_first = found + rest.chars().next().map_or(0, char::len_utf8);
                shielded.push_str(&text[copied..after_first]);
                shielded.push(shield);
                copied = after_first;
            }
        }
        shielded.push_str(&text[copied..]);
        shielded
    }

    /// The next place from `from` on where the first byte of a token is.
    fn next_candidate(&self, text: &str, from: usize) -> Option<usize> {
        let bytes = text.as_bytes().get(from..)?;
        let mut found = bytes.iter().enumerate().filter(|(_, byte)| self.lengths.contains_key(byte));
        // A first byte is never a continuation byte, so it is at the beginning of a character.
        found.next().map(|(offset, _)| from + offset)
    }
}

/// A character that the text has not.
///
/// # Errors
/// `invalid-request` if it uses up all noncharacters and private characters, which nobody does by accident.
pub fn unused_character(text: &str) -> Result<char, Failure> {
    // U+FDD0 to U+FDEF are set aside by Unicode for a program's own use and have no meaning in a text.
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

    fn tokens() -> FixedTokens {
        let texts = ["<|end|>", "<|end|>x", "<s>", "", "蜂蜂"];
        FixedTokens::new(texts.into_iter().map(str::to_owned).zip(1..))
    }

    #[test]
    fn a_text_is_cut_at_its_tokens() {
        use Part::{Text, Token};
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
    fn a_shield_goes_into_tokens_and_into_what_may_begin_one() {
        for (text, expected) in [
            ("a<|end|>b", "a<#|end|>b"),
            ("a < b", "a < b"),
            ("a <", "a <#"),
            ("a <|e  ", "a <#|e  "),
            ("<<s>", "<<#s>"),
            ("蜂蜂蜂", "蜂#蜂#蜂#"),
        ] {
            assert_eq!(tokens().shield(text, '#'), expected, "{text}");
        }
    }

    #[test]
    fn the_shield_is_a_character_that_nobody_wrote() {
        assert_eq!(unused_character("Hi"), Ok('\u{FDD0}'));
        assert_eq!(unused_character("\u{FDD1}, \u{FDD0}"), Ok('\u{FDD2}'));
    }

    proptest! {
        #[test]
        fn a_shielded_text_holds_no_token_and_loses_nothing(
            text in "([<|>endsx蜂 ]|<s>|<\\|end\\|>){0,12}",
            before in "(<s>|[a蜂]){0,2}",
            after in "(<\\|end\\|>|[a ]){0,2}",
        ) {
            let shielded = tokens().shield(&text, '\u{FDD0}');
            prop_assert_eq!(shielded.replace('\u{FDD0}', ""), text);
            let is_token = |part: &Part<'_>| matches!(part, Part::Token(_));
            let ids = |text: &str| tokens().split(text).into_iter().filter(is_token).count();
            prop_assert_eq!(ids(&shielded), 0);
            prop_assert_eq!(ids(&format!("{shielded}{after}")), ids(&after), "whatever the template writes behind it");
            prop_assert_eq!(ids(&format!("{before}|{}", shielded.trim())), ids(&before));
        }
    }
}
