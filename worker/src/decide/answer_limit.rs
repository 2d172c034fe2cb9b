//! The maximum length of an answer, given what its request asks for and what the context of the model can hold.

use rbee_schema::{Failure, FailureCode};

/// The maximum number of tokens of an answer. Prompt and answer together must fit the context.
///
/// `requested` is the `max_tokens` of the request. `default` applies to a request without it, as far as there is room.
///
/// # Errors
/// `context-exceeded`, with the numbers, if the context has no room for the answer.
pub fn answer_limit(requested: Option<u32>, default: u32, prompt: u32, context: u32) -> Result<u32, Failure> {
    let room = context.saturating_sub(prompt);
    match requested {
        _ if room == 0 => Err(Failure::new(
            FailureCode::ContextExceeded,
            format!("the prompt has {prompt} tokens and the context holds {context}: shorten the chat"),
        )),
        Some(requested) if requested > room => Err(Failure::new(
            FailureCode::ContextExceeded,
            format!(
                "max_tokens is {requested}, but the context holds {context} tokens and the prompt has {prompt}: request \
                 at most {room}"
            ),
        )),
        Some(requested) => Ok(requested),
        None => Ok(room.min(default)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_fits_the_context_behind_the_prompt() {
        assert_eq!(answer_limit(None, 1024, 10, 4096), Ok(1024));
        assert_eq!(answer_limit(None, 7, 10, 4096), Ok(7));
        assert_eq!(answer_limit(None, 1024, 4000, 4096), Ok(96));
        assert_eq!(answer_limit(Some(96), 7, 4000, 4096), Ok(96));
        for (requested, prompt) in [(Some(97), 4000), (None, 4096), (Some(1), 5000)] {
            let failure = answer_limit(requested, 1024, prompt, 4096).expect_err("does not fit");
            assert_eq!(failure.code, FailureCode::ContextExceeded);
        }
    }
}
