//! Vocabulary of the mock engine: bytes for prompts, control tokens for roles, words for answers, and some characters that are
//! split into two tokens.

use rbee_schema::{Failure, FailureCode, Role};

use super::settings::JobSettings;
use crate::{
    contract::{Chat, Text},
    decide::markup::{AnswerMarkup, HERMES, THINK},
    draw,
};

/// Tokens 0 to 255 are bytes.
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
/// Token that ends an answer.
pub(super) const EOS: u32 = 260;
const FIRST_WORD: u32 = 261;

/// Words of answers. Some have characters of several bytes.
const WORDS: [&str; 24] = [
    " bee", " hive", " queen", " honey", " comb", " wax", " flower", " meadow", " wing", " swarm", " forage",
    " nectar", " in", " the", " from", " over", " and", " with", " gathers", " carries", ",", ".", " café", " 蜂蜜",
];
const FIRST_PART: u32 = FIRST_WORD + WORDS.len() as u32;

/// Characters whose bytes are split into two tokens.
const PARTS: [[&[u8]; 2]; 3] = [[b" \xF0\x9F", b"\x90\x9D"], [b" \xE2", b"\x82\xAC"], [b" na\xC3", b"\xAFve"]];
/// One of this many pairs of tokens is a split character.
const SPLIT_EVERY: u64 = 8;

/// Number of tokens in the vocabulary.
pub(super) const SIZE: u32 = FIRST_PART + 2 * PARTS.len() as u32;

/// The text side of the mock engine.
#[derive(Default)]
pub(super) struct Vocabulary {
    /// True if answers may begin with reasoning.
    pub(super) has_reasoning: bool,
}

impl Text for Vocabulary {
    /// Renders each message behind the control token of its role. Tools come first, and calls follow their message, as JSON.
    fn prompt(&self, chat: &Chat<'_>) -> Result<Vec<u32>, Failure> {
        let mut tokens = Vec::new();
        let mut render = |role, text: &str| {
            tokens.push(role_token(role));
            tokens.extend(text.bytes().map(u32::from));
        };
        let failed = |cause: serde_json::Error| Failure::new(FailureCode::Internal, cause.to_string());
        if !chat.tools.is_empty() {
            render(Role::System, &serde_json::to_string(chat.tools).map_err(failed)?);
        }
        for message in chat.messages {
            render(message.role, message.text());
            if !message.tool_calls.is_empty() {
                render(message.role, &serde_json::to_string(&message.tool_calls).map_err(failed)?);
            }
        }
        tokens.push(ASSISTANT);
        let settings = JobSettings::default().overridden_by(&last_user_message(&tokens));
        // The engine refuses settings that are wrong.
        if settings.is_ok_and(|settings| settings.prepare_crash) {
            std::process::abort();
        }
        Ok(tokens)
    }

    fn count_tokens(&self, part: &str) -> Result<usize, Failure> {
        Ok(part.len())
    }

    fn markup(&self) -> AnswerMarkup {
        AnswerMarkup { reasoning: self.has_reasoning.then_some(THINK), calls: Some(HERMES) }
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

    fn token_count(&self) -> u32 {
        SIZE
    }

    fn eos_tokens(&self) -> Vec<u32> {
        vec![EOS]
    }
}

fn role_token(role: Role) -> u32 {
    match role {
        Role::System => SYSTEM,
        Role::User => USER,
        Role::Assistant => ASSISTANT,
        Role::Tool => TOOL,
    }
}

/// The `index`-th token of an answer without an end.
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

/// Logits for the `index`-th token of an answer: `likeliest` is the likeliest token, and the others are noise. If the answer
/// should end, closing brackets and quotes come next, so that JSON under a grammar comes to its end.
pub(super) fn logits(seed: u64, index: u32, likeliest: u32) -> Vec<f32> {
    let noise = |token| draw::unit(seed.rotate_left(32), index.wrapping_mul(SIZE).wrapping_add(token)) as f32;
    let mut logits: Vec<f32> = (0..SIZE).map(noise).collect();
    if likeliest == EOS {
        // Quotes first: inside a string the brackets close nothing.
        for (closing, logit) in [(b'"', 4.0), (b'}', 3.0), (b']', 2.0)] {
            logits[usize::from(closing)] = logit;
        }
    }
    logits[likeliest as usize] = 10.0;
    logits
}

/// The last user message of a prompt; empty if it has none.
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
    fn prompt_contains_the_last_user_message() {
        let chat =
            [message(Role::User, "first"), message(Role::Assistant, "é"), message(Role::User, "mock: crash=1 🐝")];
        let prompt = Vocabulary::default().prompt(&Chat::new(&chat)).expect("renders");
        assert_eq!(last_user_message(&prompt), "mock: crash=1 🐝");
        assert_eq!(last_user_message(&[SYSTEM, 65]), "");
    }

    #[test]
    fn answers_are_text_with_some_split_characters() {
        let tokens: Vec<u32> = (0..1_000).map(|index| token(5, index)).collect();
        let vocabulary = Vocabulary::default();
        let bytes: Vec<u8> = tokens.iter().flat_map(|&token| vocabulary.piece(token)).copied().collect();
        let text = String::from_utf8(bytes).expect("split characters are complete");
        assert!(text.contains("🐝") && text.contains("€") && text.contains("naïve"), "{text}");
        assert!(tokens.iter().any(|&token| std::str::from_utf8(Vocabulary::default().piece(token)).is_err()));
    }

    #[test]
    fn tokens_depend_on_seed_and_index() {
        let answer = |seed| (0..8).map(|index| token(seed, index)).collect::<Vec<u32>>();
        assert_eq!(answer(1), [279, 276, 268, 273, 272, 267, 261, 267]);
        assert_eq!(answer(2), [267, 274, 273, 263, 289, 290, 265, 277], "with a split character");
    }

    #[test]
    fn unknown_ids_have_no_bytes() {
        for token in [SYSTEM, EOS, SIZE, u32::MAX] {
            assert!(Vocabulary::default().piece(token).is_empty(), "{token}");
        }
        assert_eq!(Vocabulary::default().piece(SIZE - 1), b"\xAFve");
    }
}
