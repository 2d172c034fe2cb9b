//! Adjusts logits before a token is chosen: penalties, biases, the constraint, and the minimum length.

use std::{borrow::Cow, collections::BTreeMap};

use rbee_schema::Sampling;

use super::{Mask, weight};

/// Number of last tokens to which the repetition penalty applies. 64 is the default of llama.cpp.
pub const PENALTY_WINDOW: usize = 64;

/// The logits after all adjustments; borrowed if no adjustment applies. A forbidden token gets a logit of negative infinity.
pub(super) fn adjust<'a>(
    logits: &'a [f32],
    history: &[u32],
    sampling: &Sampling,
    allowed: Option<&Mask>,
    index: u32,
) -> Cow<'a, [f32]> {
    let mut adjusted = Cow::Borrowed(logits);
    if sampling.repetition_penalty != 1.0 {
        let recent = &history[history.len().saturating_sub(PENALTY_WINDOW)..];
        penalize_repetition(adjusted.to_mut(), logits, recent, sampling.repetition_penalty);
    }
    if sampling.presence_penalty != 0.0 || sampling.frequency_penalty != 0.0 {
        let answer = &history[history.len().saturating_sub(index as usize)..];
        penalize_presence(adjusted.to_mut(), answer, sampling.presence_penalty, sampling.frequency_penalty);
    }
    for (token, bias) in &sampling.logit_bias {
        update(adjusted.to_mut(), *token, |logit| logit + bias);
    }
    if let Some(allowed) = allowed {
        allowed.apply(adjusted.to_mut());
    }
    if index < sampling.min_tokens {
        forbid_eos(adjusted.to_mut(), &sampling.eos_tokens, allowed.is_some());
    }
    adjusted
}

/// Forbids the tokens that end the answer. They stay allowed if the constraint allows nothing else.
fn forbid_eos(adjusted: &mut [f32], eos_tokens: &[u32], is_constrained: bool) {
    let before: Vec<Option<f32>> = eos_tokens.iter().map(|token| adjusted.get(*token as usize).copied()).collect();
    for token in eos_tokens {
        update(adjusted, *token, |_| f32::NEG_INFINITY);
    }
    if is_constrained && weight::highest(adjusted) == f32::NEG_INFINITY {
        for (token, logit) in eos_tokens.iter().zip(before) {
            update(adjusted, *token, |none| logit.unwrap_or(none));
        }
    }
}

/// Applies the repetition penalty: divides positive logits of recent tokens and multiplies negative ones, once per distinct token
/// (Keskar and others: CTRL, 2019, section 4.1).
fn penalize_repetition(adjusted: &mut [f32], logits: &[f32], recent: &[u32], penalty: f32) {
    for &token in recent {
        if let Some(&logit) = logits.get(token as usize) {
            // Computed from the original logits, so that a token that occurs twice is not penalized twice.
            let penalized = if logit > 0.0 { logit / penalty } else { logit * penalty };
            adjusted[token as usize] = penalized.clamp(f32::MIN, f32::MAX);
        }
    }
}

/// Subtracts `presence` from the logit of each token of the answer so far, and `frequency` once per occurrence
/// (<https://platform.openai.com/docs/api-reference/chat/create>).
fn penalize_presence(adjusted: &mut [f32], answer: &[u32], presence: f32, frequency: f32) {
    let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
    for token in answer {
        *counts.entry(*token).or_default() += 1;
    }
    for (token, count) in counts {
        update(adjusted, token, |logit| logit - presence - frequency * count as f32);
    }
}

fn update(logits: &mut [f32], token: u32, new: impl FnOnce(f32) -> f32) {
    if let Some(logit) = logits.get_mut(token as usize) {
        *logit = new(*logit).min(f32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adjusted(logits: &[f32], history: &[u32], sampling: &Sampling, index: u32) -> Vec<f32> {
        adjust(logits, history, sampling, None, index).into_owned()
    }

    #[test]
    fn unadjusted_logits_are_not_copied() {
        let logits = [1.0, 2.0];
        assert!(matches!(adjust(&logits, &[0, 1], &Sampling::GREEDY, None, 1), Cow::Borrowed(_)));
        let later = Sampling { min_tokens: 1, eos_tokens: vec![0], ..Sampling::GREEDY };
        assert!(matches!(adjust(&logits, &[0, 1], &later, None, 1), Cow::Borrowed(_)));
    }

    #[test]
    fn presence_and_frequency_penalties_ignore_the_prompt() {
        let sampling = Sampling { presence_penalty: 0.5, frequency_penalty: 0.25, ..Sampling::GREEDY };
        assert_eq!(adjusted(&[1.0, 1.0, 1.0], &[0, 0, 1, 2, 1, 9], &sampling, 4), [1.0, 0.0, 0.25]);
        assert_eq!(adjusted(&[1.0, 1.0, 1.0], &[0, 0, 1], &sampling, 0), [1.0; 3]);
    }

    #[test]
    fn bias_is_added_and_eos_waits_for_min_tokens() {
        let logit_bias = BTreeMap::from([(0, -100.0), (1, 2.0), (7, 1.0)]);
        let sampling = Sampling { logit_bias, min_tokens: 2, eos_tokens: vec![2, 8], ..Sampling::GREEDY };
        assert_eq!(adjusted(&[1.0, 1.0, 1.0], &[], &sampling, 1), [-99.0, 3.0, f32::NEG_INFINITY]);
        assert_eq!(adjusted(&[1.0, 1.0, 1.0], &[], &sampling, 2), [-99.0, 3.0, 1.0]);
        let only =
            |token: u32| adjust(&[1.0, 1.0, 1.0], &[], &sampling, Some(&Mask::new(vec![1 << token])), 1).into_owned();
        assert_eq!(only(1), [f32::NEG_INFINITY, 3.0, f32::NEG_INFINITY]);
        assert_eq!(only(2), [f32::NEG_INFINITY, f32::NEG_INFINITY, 1.0], "the answer is complete under the constraint");
    }
}
