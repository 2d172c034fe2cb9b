//! Converts a model's vocabulary to the byte trie of `llguidance`.

use std::sync::Arc;

use llguidance::ParserFactory;
use rbee_schema::{Failure, FailureCode};
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use crate::contract::Text;

/// Longest usable token in bytes, well below the limit of the trie. Shorter tokens can express the same text.
const MAX_TOKEN_BYTES: usize = 512;

/// Builds the state that all grammars of a vocabulary share.
pub(super) fn factory(text: &dyn Text) -> Result<ParserFactory, Failure> {
    // The approximate environment does not tokenize forced bytes as the model would. The model's own choice among the allowed
    // tokens is as good, and keeps the answer a function of its tokens.
    let vocabulary: TokEnv = Arc::new(ApproximateTokEnv::new(trie(text)?));
    let mut factory = ParserFactory::new_simple(&vocabulary).map_err(|cause| {
        Failure::new(FailureCode::Internal, format!("the vocabulary cannot be used for grammars: {cause}"))
    })?;
    factory.quiet();
    factory.limits_mut().verbose_errors = false;
    Ok(factory)
}

fn trie(text: &dyn Text) -> Result<TokTrie, Failure> {
    let ends = text.eos_tokens();
    let Some(first_end) = ends.first() else {
        return Err(Failure::new(
            FailureCode::ModelUnsupported,
            "the model has no stop token, which output formats need: leave the output format out of the request",
        ));
    };
    let tokens: Vec<Vec<u8>> = (0..text.token_count()).map(|token| token_bytes(text, token)).collect();
    Ok(TokTrie::from(&TokRxInfo::new(text.token_count(), *first_end), &tokens).with_eos_tokens(&ends))
}

fn token_bytes(text: &dyn Text, token: u32) -> Vec<u8> {
    let piece = text.piece(token);
    // No UTF-8 text has the marker byte. The trie uses it for control tokens.
    let is_usable = piece.len() <= MAX_TOKEN_BYTES && piece.first() != Some(&TokTrie::SPECIAL_TOKEN_MARKER);
    if is_usable { piece.to_vec() } else { Vec::new() }
}
