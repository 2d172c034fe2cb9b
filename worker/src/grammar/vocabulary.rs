//! A model's vocabulary as a tree of bytes.

use std::sync::Arc;

use llguidance::ParserFactory;
use rbee_schema::{Failure, FailureCode};
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use crate::contract::Text;

/// The longest token that the tree can hold with room to spare. No grammar needs a longer one: shorter ones say the same.
const LONGEST: usize = 512;

/// Makes what all grammars of a vocabulary share.
pub(super) fn factory(text: &dyn Text) -> Result<ParserFactory, Failure> {
    // Forced bytes could be tokenised as the model would do it. Its own choice among the tokens that fit is as good, and
    // keeps the answer a function of its tokens.
    let vocabulary: TokEnv = Arc::new(ApproximateTokEnv::new(tree(text)?));
    let mut factory = ParserFactory::new_simple(&vocabulary).map_err(|cause| {
        Failure::new(FailureCode::Internal, format!("the vocabulary cannot be used for grammars: {cause}"))
    })?;
    factory.quiet();
    factory.limits_mut().verbose_errors = false;
    Ok(factory)
}

fn tree(text: &dyn Text) -> Result<TokTrie, Failure> {
    let ends = text.ends();
    let Some(first_end) = ends.first() else {
        return Err(Failure::new(
            FailureCode::ModelUnsupported,
            "no token ends the model's answers, so that their form cannot be held: leave it out of the request",
        ));
    };
    let words: Vec<Vec<u8>> = (0..text.size()).map(|token| word(text, token)).collect();
    Ok(TokTrie::from(&TokRxInfo::new(text.size(), *first_end), &words).with_eos_tokens(&ends))
}

fn word(text: &dyn Text, token: u32) -> Vec<u8> {
    let piece = text.piece(token);
    // No text has this byte, and in the tree it marks tokens that stand for themselves.
    let is_usable = piece.len() <= LONGEST && piece.first() != Some(&TokTrie::SPECIAL_TOKEN_MARKER);
    if is_usable { piece.to_vec() } else { Vec::new() }
}
