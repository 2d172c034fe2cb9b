//! How probable a text is, for measurements.

use rbee_kernels::PAGE_TOKENS;
use rbee_schema::{Failure, FailureCode};
use rbee_transformer::{PageId, SequenceChunk};

use super::engine::DecoderEngine;

/// Tokens whose logits are held at a time while a text is scored.
const SCORED_AT_ONCE: usize = 64;

impl DecoderEngine {
    pub(super) fn score_text(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Failure> {
        let size = self.decoder.description().vocabulary;
        let is_known = tokens.iter().all(|token| (*token as usize) < size);
        if tokens.len() < 2 || tokens.len() > self.context as usize || !is_known {
            let (count, context) = (tokens.len(), self.context);
            let expected = format!("expected 2 to {context} tokens of its vocabulary");
            return Err(Failure::new(FailureCode::InvalidRequest, format!("a text of {count} tokens: {expected}")));
        }
        let needed = tokens.len().div_ceil(PAGE_TOKENS);
        if self.cache.available() < needed {
            return Err(Failure::new(FailureCode::QueueFull, "other sequences use the cache: ask when they are done"));
        }
        let pages: Vec<PageId> = (0..needed).filter_map(|_| self.cache.allocate()).collect();
        let mut scores = Vec::with_capacity(tokens.len() - 1);
        for (part, start) in tokens.chunks(SCORED_AT_ONCE).zip((0..).step_by(SCORED_AT_ONCE)) {
            let span = SequenceChunk { tokens: part, start, pages: &pages, logit_rows: part.len() };
            self.decoder.forward(&mut self.cache, &[span]);
            let rows = self.decoder.logits().chunks_exact(size);
            scores.extend(rows.zip(&tokens[start + 1..]).map(|(logits, next)| log_probability(logits, *next)));
        }
        self.cache.release(&pages);
        Ok(scores)
    }
}

/// The logarithm of a token's softmax.
fn log_probability(logits: &[f32], token: u32) -> f32 {
    let highest = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
    let total: f64 = logits.iter().map(|logit| (f64::from(*logit) - highest).exp()).sum();
    (f64::from(logits[token as usize]) - highest - total.ln()) as f32
}
