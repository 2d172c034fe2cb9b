//! Chooses the next token from a model's logits.
//!
//! A pure function of (logits, tokens so far, [`Sampling`], index of the token): no state, no clock, no generator that
//! has to be carried along. The order of the filters is the one of the OpenAI-compatible servers built on Hugging Face
//! transformers: penalties, biases, temperature, top-k, top-p, min-p, draw.
//!
//! A vocabulary may have 262,144 tokens, and this runs for each token of each answer. So the likeliest token is found
//! in the logits as they are, and a draw looks closely at the few tokens that have a chance.

mod adjust;
mod logprobs;
mod mask;
mod nucleus;
mod weight;

use rbee_schema::{Failure, FailureCode, Sampling};

pub use self::{adjust::PENALTY_WINDOW, logprobs::Logprobs, mask::Mask};

/// A token that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// How probable it was, where that was asked for.
    pub logprobs: Option<Box<Logprobs>>,
}

/// The token that follows `history` (prompt and answer so far), of which it is the `index`-th of the answer.
///
/// Only tokens in `allowed` are taken, and `min_tokens` gives way to it: a form that is complete leaves no more to say.
/// `logits` holds one unnormalised log-probability for each token of the vocabulary. A temperature of 0 takes the
/// likeliest token, and of equally likely ones the lowest id.
///
/// # Errors
/// `model-invalid` if a logit is not a finite number, or if there are none; `invalid-request` if no token may be taken.
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
        return Err(Failure::new(FailureCode::InvalidRequest, "what was asked for leaves no token to go on with"));
    }
    let id = if sampling.temperature <= 0.0 {
        first(&adjusted, highest)
    } else {
        nucleus::draw(&adjusted, highest, sampling, index)
    };
    let logprobs = sampling.logprobs.map(|count| Box::new(Logprobs::of(id, logits, count)));
    Ok(Token { id, logprobs })
}

fn check(logits: &[f32]) -> Result<(), Failure> {
    // Branch by branch this would be the slowest part of a greedy choice.
    let is_broken = logits.iter().fold(false, |broken, logit| broken | !logit.is_finite());
    if !is_broken && !logits.is_empty() {
        return Ok(());
    }
    let broken = logits.iter().filter(|logit| !logit.is_finite()).count();
    let found = format!("{broken} of the {} scores that the model computed are not finite numbers", logits.len());
    Err(Failure::new(FailureCode::ModelInvalid, format!("{found}: its file may be damaged; compare its checksum")))
}

/// The lowest id with this logit.
fn first(logits: &[f32], wanted: f32) -> u32 {
    logits.iter().position(|logit| *logit == wanted).unwrap_or(0) as u32
}

#[cfg(test)]
mod tests;
