//! Tokens that stand for a fixed text, and the shield that keeps people from writing them.
//!
//! A chat template writes control tokens such as `<|im_end|>` as text. The same text in a message must stay text, or
//! whoever writes a message could end it and speak as another role. Templates trim, split and compare messages, so the
//! messages cannot be wrapped in marks or tokenised apart. Instead each message is shielded before it is rendered: a
//! character that occurs in no message is put behind the first character of every control token in it. The rendered
//! text then holds whole control tokens only where the template wrote them; once it is cut at those, the shield is
//! taken out again.

use rbee_schema::{Failure, FailureCode, Message};

/// Tokens that are found by their text.
#[derive(Debug, Clone, Default)]
pub struct FixedTokens {
    /// Longest first: of two that match, the longer one is meant.
    tokens: Vec<(String, u32)>,
    /// The bytes with which tokens begin.
    first_bytes: Vec<u8>,
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
    /// From texts and ids; empty texts are ignored.
    pub fn new(tokens: impl IntoIterator<Item = (String, u32)>) -> Self {
        let mut tokens: Vec<(String, u32)> = tokens.into_iter().filter(|(text, _)| !text.is_empty()).collect();
        tokens.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then(a.1.cmp(&b.1)));
        let mut first_bytes: Vec<u8> = tokens.iter().map(|(text, _)| text.as_bytes()[0]).collect();
        first_bytes.sort_unstable();
        first_bytes.dedup();
        Self { tokens, first_bytes }
    }

    /// Cuts a text at the tokens in it. No part is empty.
    pub fn split<'a>(&self, text: &'a str) -> Vec<Part<'a>> {
        let (mut parts, mut start, mut position) = (Vec::new(), 0, 0);
        while let Some(found) = self.next_candidate(text, position) {
            let Some((token, id)) = self.tokens.iter().find(|(token, _)| text[found..].starts_with(token.as_str()))
            else {
                position = found + 1;
                continue;
            };
            if start < found {
                parts.push(Part::Text(&text[start..found]));
            }
            parts.push(Part::Token(*id));
            start = found + token.len();
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
        while let Some(found) = self.next_candidate(text, position) {
            position = found + 1;
            // Templates trim messages, so trailing space does not count as an end.
            let (rest, trimmed) = (&text[found..], text[found..].trim_end());
            if self.tokens.iter().any(|(token, _)| rest.starts_with(token.as_str()) || token.starts_with(trimmed)) {
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
        let mut found = bytes.iter().enumerate().filter(|(_, byte)| self.first_bytes.binary_search(byte).is_ok());
        // A first byte is never a continuation byte, so it is at the beginning of a character.
        found.next().map(|(offset, _)| from + offset)
    }
}

/// A character that is in none of the messages.
///
/// # Errors
/// `invalid-request` if the messages use up all noncharacters and private characters, which nobody does by accident.
pub fn unused_character(messages: &[Message]) -> Result<char, Failure> {
    // U+FDD0 to U+FDEF are set aside by Unicode for a program's own use and have no meaning in a text.
    let mut candidates = ('\u{FDD0}'..='\u{FDEF}').chain('\u{E000}'..='\u{F8FF}');
    let unused = candidates.find(|&candidate| messages.iter().all(|message| !message.content.contains(candidate)));
    unused.ok_or_else(|| {
        Failure::new(FailureCode::InvalidRequest, "the messages contain every character of Unicode's private areas")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rbee_schema::Role;

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
        let message = |content: &str| Message { role: Role::User, content: content.into() };
        assert_eq!(unused_character(&[message("Hi")]), Ok('\u{FDD0}'));
        assert_eq!(unused_character(&[message("\u{FDD0}"), message("\u{FDD1}")]), Ok('\u{FDD2}'));
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
