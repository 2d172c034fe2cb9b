//! The mock's tokens: bytes for prompts, marks for roles, words for answers, and parts of characters now and then.

use rbee_schema::{Failure, FailureCode, Role};

use crate::{
    contract::{Chat, Text},
    decide::format::{AnswerFormat, HERMES, THINK},
    draw,
};

/// Ids 0 to 255 are bytes.
static BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        bytes[byte] = byte as u8;
        byte += 1;
    }
    bytes
};

const SYSTEM: u32 = 256;
const USER: u32 = 257;
const ASSISTANT: u32 = 258;
const TOOL: u32 = 259;
/// The token that ends an answer.
pub(super) const END: u32 = 260;
const FIRST_WORD: u32 = 261;

/// What answers are made of. Some have characters of several bytes.
const WORDS: [&str; 24] = [
    " bee", " hive", " queen", " honey", " comb", " wax", " flower", " meadow", " wing", " swarm", " forage",
    " nectar", " in", " the", " from", " over", " and", " with", " gathers", " carries", ",", ".", " café", " 蜂蜜",
];
const FIRST_PART: u32 = FIRST_WORD + WORDS.len() as u32;

/// Characters whose bytes come in two tokens.
const PARTS: [[&[u8]; 2]; 3] = [[b" \xF0\x9F", b"\x90\x9D"], [b" \xE2", b"\x82\xAC"], [b" na\xC3", b"\xAFve"]];
/// One pair of tokens in this many is a split character.
const SPLIT_EVERY: u64 = 8;

/// The first token id that is not in the vocabulary.
pub(super) const SIZE: u32 = FIRST_PART + 2 * PARTS.len() as u32;

/// The text side of the mock.
#[derive(Default)]
pub(super) struct Vocabulary {
    pub(super) thinks: bool,
}

impl Text for Vocabulary {
    /// Each message behind the mark of its role. Tools stand at the beginning, and calls in their message, as JSON.
    fn prompt(&self, chat: &Chat<'_>) -> Result<Vec<u32>, Failure> {
        let mut tokens = Vec::new();
        let mut say = |role, text: &str| {
            tokens.push(mark(role));
            tokens.extend(text.bytes().map(u32::from));
        };
        let failed = |cause: serde_json::Error| Failure::new(FailureCode::Internal, cause.to_string());
        if !chat.tools.is_empty() {
            say(Role::System, &serde_json::to_string(chat.tools).map_err(failed)?);
        }
        for message in chat.messages {
            say(message.role, message.text());
            if !message.tool_calls.is_empty() {
                say(message.role, &serde_json::to_string(&message.tool_calls).map_err(failed)?);
            }
        }
        tokens.push(ASSISTANT);
        Ok(tokens)
    }

    fn format(&self) -> AnswerFormat {
        AnswerFormat { thoughts: self.thinks.then_some(THINK), calls: Some(HERMES) }
    }

    fn piece(&self, token: u32) -> &[u8] {
        if let Some(byte) = BYTES.get(token as usize..=token as usize) {
            return byte;
        }
        if let Some(word) = token.checked_sub(FIRST_WORD).and_then(|word| WORDS.get(word as usize)) {
            return word.as_bytes();
        }
        let part = token.checked_sub(FIRST_PART).map(|part| part as usize);
        part.and_then(|part| PARTS.as_flattened().get(part)).copied().unwrap_or_default()
    }

    fn size(&self) -> u32 {
        SIZE
    }

    fn ends(&self) -> Vec<u32> {
        vec![END]
    }
}

fn mark(role: Role) -> u32 {
    match role {
        Role::System => SYSTEM,
        Role::User => USER,
        Role::Assistant => ASSISTANT,
        Role::Tool => TOOL,
    }
}

/// The `index`-th token of an answer that does not end.
pub(super) fn token(seed: u64, index: u32) -> u32 {
    // Both tokens of a pair draw with the pair's index, so that the second part of a character follows the first.
    let pair = draw::bits(!seed, index / 2);
    if pair.is_multiple_of(SPLIT_EVERY) {
        let character = (pair / SPLIT_EVERY % PARTS.len() as u64) as u32;
        FIRST_PART + 2 * character + index % 2
    } else {
        FIRST_WORD + (draw::bits(seed, index) % WORDS.len() as u64) as u32
    }
}

/// What a model would say of each token as the `index`-th of an answer: that `wanted` is the likeliest, and nothing about
/// the others, except that an answer which is to end closes what it has opened.
pub(super) fn logits(seed: u64, index: u32, wanted: u32) -> Vec<f32> {
    let noise = |token| draw::unit(seed.rotate_left(32), index.wrapping_mul(SIZE).wrapping_add(token)) as f32;
    let mut logits: Vec<f32> = (0..SIZE).map(noise).collect();
    if wanted == END {
        // A text in quotes first: within one the others close nothing.
        for (closing, logit) in [(b'"', 4.0), (b'}', 3.0), (b']', 2.0)] {
            logits[usize::from(closing)] = logit;
        }
    }
    logits[wanted as usize] = 10.0;
    logits
}

/// The last user message of a prompt; empty if there is none.
pub(super) fn last_user_message(prompt: &[u32]) -> String {
    let start = prompt.iter().rposition(|&token| token == USER).map_or(prompt.len(), |mark| mark + 1);
    let bytes = prompt[start..].iter().map_while(|&token| u8::try_from(token).ok());
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}

#[cfg(test)]
mod tests {
    use rbee_schema::Message;

    use super::*;

    fn message(role: Role, content: &str) -> Message {
        Message::new(role, content)
    }

    #[test]
    fn a_prompt_carries_the_last_user_message() {
        let chat =
            [message(Role::User, "first"), message(Role::Assistant, "é"), message(Role::User, "mock: crash=1 🐝")];
        let prompt = Vocabulary::default().prompt(&Chat::new(&chat)).expect("renders");
        assert_eq!(last_user_message(&prompt), "mock: crash=1 🐝");
        assert_eq!(last_user_message(&[SYSTEM, 65]), "");
    }

    #[test]
    fn answers_are_text_in_which_some_characters_are_split() {
        let tokens: Vec<u32> = (0..1_000).map(|index| token(5, index)).collect();
        let vocabulary = Vocabulary::default();
        let bytes: Vec<u8> = tokens.iter().flat_map(|&token| vocabulary.piece(token)).copied().collect();
        let text = String::from_utf8(bytes).expect("split characters are complete");
        assert!(text.contains("🐝") && text.contains("€") && text.contains("naïve"), "{text}");
        assert!(tokens.iter().any(|&token| std::str::from_utf8(Vocabulary::default().piece(token)).is_err()));
    }

    #[test]
    fn tokens_depend_on_seed_and_index() {
        let answer = |seed| (0..50).map(|index| token(seed, index)).collect::<Vec<u32>>();
        assert_eq!(answer(1), answer(1));
        assert_ne!(answer(1), answer(2));
    }

    #[test]
    fn ids_that_do_not_exist_have_no_bytes() {
        for token in [SYSTEM, END, SIZE, u32::MAX] {
            assert!(Vocabulary::default().piece(token).is_empty(), "{token}");
        }
        assert_eq!(Vocabulary::default().piece(SIZE - 1), b"\xAFve");
    }
}
