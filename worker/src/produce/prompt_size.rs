//! Refusal of a chat that is much too long for the model, before it is rendered: the larger a chat is, the longer that takes.

use rbee_schema::{Failure, FailureCode, JobRequest, MAX_BODY_BYTES};

use crate::contract::Text;

/// Size of the parts in which a chat is counted, in bytes. Small against a context, so that little is counted too much.
const PART: usize = 16 << 10;

/// A chat is refused here from this multiple of the context on. Parts have a few tokens more than the whole, because words are
/// cut. What is left is rendered and counted exactly.
const CERTAIN: usize = 2;

/// Checks the messages of a chat that is larger than a message of the bus. Costs no more than tokenizing [`CERTAIN`] contexts.
///
/// # Errors
/// `context-exceeded` if they have many more tokens than the context holds.
pub(super) fn check(text: &dyn Text, request: &JobRequest, context: u32) -> Result<(), Failure> {
    let contents = || request.messages.iter().map(|message| message.text());
    if contents().map(str::len).sum::<usize>() <= MAX_BODY_BYTES {
        return Ok(());
    }
    let most = CERTAIN * context as usize;
    let mut count = 0;
    for part in contents().flat_map(parts) {
        count += text.count_tokens(part)?;
        if count > most {
            return Err(Failure::new(
                FailureCode::ContextExceeded,
                format!("the prompt has more than {most} tokens and the context holds {context}: shorten the chat"),
            ));
        }
    }
    Ok(())
}

/// A text in parts of [`PART`] bytes.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (part, after) = rest.split_at(rest.floor_char_boundary(PART));
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rbee_schema::{Message, Role};

    use super::*;
    use crate::{contract::Chat, decide::markup::AnswerMarkup};

    /// Text of which four bytes are a token.
    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Text for Counted {
        fn prompt(&self, _: &Chat<'_>) -> Result<Vec<u32>, Failure> {
            panic!("the chat is not rendered")
        }

        fn count_tokens(&self, part: &str) -> Result<usize, Failure> {
            self.0.fetch_add(part.len(), Ordering::Relaxed);
            Ok(part.len() / 4)
        }

        fn markup(&self) -> AnswerMarkup {
            AnswerMarkup::default()
        }

        fn piece(&self, _: u32) -> &[u8] {
            &[]
        }

        fn token_count(&self) -> u32 {
            0
        }

        fn eos_tokens(&self) -> Vec<u32> {
            Vec::new()
        }
    }

    fn check_bytes(bytes: usize, context: u32) -> (Result<(), FailureCode>, usize) {
        let messages = vec![Message::new(Role::User, "é".repeat(bytes / 2))];
        let (text, request) = (Counted::default(), JobRequest { messages, ..JobRequest::default() });
        let checked = check(&text, &request, context).map_err(|failure| failure.code);
        (checked, text.0.load(Ordering::Relaxed))
    }

    #[test]
    fn chat_of_many_contexts_is_refused_after_two_of_them() {
        let (checked, counted) = check_bytes(64 << 20, 8_192);
        assert_eq!(checked, Err(FailureCode::ContextExceeded));
        assert!(counted <= 2 * 8_192 * 4 + PART, "{counted}");
    }

    #[test]
    fn chat_that_may_fit_is_left_to_its_exact_count() {
        assert_eq!(check_bytes(1 << 20, 262_144), (Ok(()), 1 << 20));
        assert_eq!(check_bytes(MAX_BODY_BYTES, 10), (Ok(()), 0), "a small chat is not counted twice");
    }
}
