//! Chooses the next token from a model's logits.
//!
//! A pure function of (logits, tokens so far, [`Sampling`], index of the token): no state, no clock, no random generator that
//! must be carried along. The order of the steps is that of the OpenAI-compatible servers built on Hugging Face transformers:
//! penalties, biases, temperature, top-k, top-p, min-p, draw.
//!
//! A vocabulary may have 262,144 tokens, and this code runs for each token of each answer. Therefore the likeliest token is
//! found without sorting or copying the logits, and a draw examines only the few tokens that have a chance.

mod adjust;
mod logprobs;
mod mask;
mod nucleus;
mod weight;

use rbee_schema::{Failure, FailureCode, Sampling};

pub use self::{adjust::PENALTY_WINDOW, logprobs::Logprobs, mask::Mask};

/// A token that was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Id of the token in the vocabulary.
    pub id: u32,
    /// Log-probabilities, if the request asks for them.
    pub logprobs: Option<Box<Logprobs>>,
}

/// Chooses the token that follows `history` (prompt and answer so far), as the `index`-th token of the answer.
///
/// Only tokens in `allowed` are chosen. `allowed` overrides `min_tokens`, because an answer that is complete under its
/// constraint cannot continue. `logits` has one unnormalized log-probability for each token of the vocabulary. A temperature of
/// 0 chooses the likeliest token, and of equally likely tokens the one with the lowest id.
///
/// # Errors
/// `model-invalid` if a logit is not a finite number, or if there are no logits; `invalid-request` if no token is allowed.
pub fn sample(
    logits: &[f32],
    history: &[u32],
    sampling: &Sampling,
    allowed: Option<&Mask>,
    index: u32,
) -> Result<Token, Failure> {
    check(logits)?;
    let adjusted = adjust::adjust(logits, history, sampling, allowed, index);
    let highest = weight::highest(&adjusted);
    if highest == f32::NEG_INFINITY {
        return Err(Failure::new(
            FailureCode::InvalidRequest,
            "the sampling parameters and the output format of the request allow no next token",
        ));
    }
    let id = if sampling.temperature <= 0.0 {
        nucleus::first_with(&adjusted, highest)
    } else {
        nucleus::draw(&adjusted, highest, sampling, index)
    };
    let logprobs = sampling.logprobs.map(|count| Box::new(Logprobs::of(id, logits, count)));
    Ok(Token { id, logprobs })
}

fn check(logits: &[f32]) -> Result<(), Failure> {
    // Without branches, so that the compiler vectorizes it: otherwise this would be the slowest part of a greedy choice.
    let is_broken = logits.iter().fold(false, |broken, logit| broken | !logit.is_finite());
    if !is_broken && !logits.is_empty() {
        return Ok(());
    }
    let broken = logits.iter().filter(|logit| !logit.is_finite()).count();
    let found = format!("{broken} of {} logits that the model computed are not finite numbers", logits.len());
    Err(Failure::new(
        FailureCode::ModelInvalid,
        format!("{found}: the model file may be damaged; compare its checksum"),
    ))
}

#[cfg(test)]
mod tests;
