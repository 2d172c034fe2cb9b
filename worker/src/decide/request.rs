//! What a job asks for, weighed against what the model can hold.

use rbee_schema::{Failure, FailureCode};

/// How many tokens the answer may have, where the prompt has `prompt` and both together may have `context`; `usual` where
/// nobody asked for a number.
///
/// # Errors
/// `context-exceeded`, with the numbers.
pub fn answer_limit(asked: Option<u32>, usual: u32, prompt: u32, context: u32) -> Result<u32, Failure> {
    let room = context.saturating_sub(prompt);
    match asked {
        _ if room == 0 => Err(Failure::new(
            FailureCode::ContextExceeded,
            format!("the prompt has {prompt} tokens and the context holds {context}: shorten the chat"),
        )),
        Some(asked) if asked > room => Err(Failure::new(
            FailureCode::ContextExceeded,
            format!(
                "max_tokens is {asked}, but the context holds {context} tokens and the prompt has {prompt}: ask for at \
                 most {room}"
            ),
        )),
        Some(asked) => Ok(asked),
        None => Ok(room.min(usual)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_fits_what_the_prompt_leaves_of_the_context() {
        assert_eq!(answer_limit(None, 1024, 10, 4096), Ok(1024));
        assert_eq!(answer_limit(None, 7, 10, 4096), Ok(7));
        assert_eq!(answer_limit(None, 1024, 4000, 4096), Ok(96));
        assert_eq!(answer_limit(Some(96), 7, 4000, 4096), Ok(96));
        for (asked, prompt) in [(Some(97), 4000), (None, 4096), (Some(1), 5000)] {
            let failure = answer_limit(asked, 1024, prompt, 4096).expect_err("does not fit");
            assert_eq!(failure.code, FailureCode::ContextExceeded);
        }
    }
}
