//! Log-probabilities of the tokens of a text, for measurements.

use rbee_kernels::PAGE_TOKENS;
use rbee_schema::{Failure, FailureCode};
use rbee_transformer::{Decoder, KvCache, PageId, SequenceChunk};

/// Number of tokens whose logits are held at the same time.
const CHUNK: usize = 64;

/// Computes the log-probability of each token of a text given the tokens before it, for all but the first.
///
/// # Errors
/// `invalid-request` if there are less than 2 tokens or more than `context`, or one that is not in the vocabulary;
/// `queue-full` if admitted sequences leave too few free pages.
pub(super) fn score(
    decoder: &mut Decoder,
    cache: &mut KvCache,
    context: usize,
    tokens: &[u32],
) -> Result<Vec<f32>, Failure> {
    let vocabulary = decoder.description().vocabulary;
    let is_known = tokens.iter().all(|token| (*token as usize) < vocabulary);
    if tokens.len() < 2 || tokens.len() > context || !is_known {
        let expected = format!("expected 2 to {context} tokens of its vocabulary");
        let message = format!("a text of {} tokens: {expected}", tokens.len());
        return Err(Failure::new(FailureCode::InvalidRequest, message));
    }
    let needed = tokens.len().div_ceil(PAGE_TOKENS);
    if cache.available() < needed {
        let message = "other sequences use the cache: try again when they are finished";
        return Err(Failure::new(FailureCode::QueueFull, message));
    }
    let pages: Vec<PageId> = (0..needed).filter_map(|_| cache.allocate()).collect();
    let mut scores = Vec::with_capacity(tokens.len() - 1);
    for (chunk, start) in tokens.chunks(CHUNK).zip((0..).step_by(CHUNK)) {
        let chunk = SequenceChunk { tokens: chunk, start, pages: &pages, logit_rows: chunk.len() };
        decoder.forward(cache, &[chunk]);
        let rows = decoder.logits().chunks_exact(vocabulary);
        scores.extend(rows.zip(&tokens[start + 1..]).map(|(logits, next)| log_probability(logits, *next)));
    }
    cache.release(&pages);
    Ok(scores)
}

/// Logarithm of the softmax of one token, in 64 bits.
fn log_probability(logits: &[f32], token: u32) -> f32 {
    let highest = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
    let total: f64 = logits.iter().map(|logit| (f64::from(*logit) - highest).exp()).sum();
    (f64::from(logits[token as usize]) - highest - total.ln()) as f32
}
