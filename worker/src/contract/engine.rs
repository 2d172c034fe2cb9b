//! The engine: makes tokens for several sequences at the same time.

use std::time::Duration;

use rbee_schema::{Failure, FailureCode, PromptCacheStats, Sampling};

use super::{constraint::Constraint, text::no_embeddings};
use crate::sample::Token;

/// Identifies a sequence within one engine. The caller chooses the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub u64);

/// One answer to be made: a prompt, the tokens so far, and the rules for choosing the next ones.
#[derive(Debug)]
pub struct Sequence {
    /// Tokens of the rendered prompt; at least one.
    pub prompt: Vec<u32>,
    /// Tokens of the answer so far. A resumed job starts with some.
    pub emitted: Vec<u32>,
    /// Sampling parameters.
    pub sampling: Sampling,
    /// Limits the answer to an output format. It has already accepted the tokens of `emitted`. `None`: any text.
    pub constraint: Option<Box<dyn Constraint>>,
}

impl Sequence {
    /// An answer without tokens so far and without a constraint.
    pub fn new(prompt: Vec<u32>, sampling: Sampling) -> Self {
        Self { prompt, emitted: Vec::new(), sampling, constraint: None }
    }
}

/// Makes tokens for several sequences at the same time.
pub trait Engine: Send {
    /// Admits a sequence. Its prompt is read during the following steps.
    ///
    /// # Errors
    /// - `context-exceeded`: prompt and emitted tokens leave no room for another token;
    /// - `invalid-request`: the prompt is empty, or the prompt contains an unknown setting of the mock engine;
    /// - `queue-full`: every slot is taken;
    /// - `internal`: a sequence with this id is already admitted, or a token is not in the vocabulary.
    fn admit(&mut self, id: SequenceId, sequence: Sequence) -> Result<(), Failure>;

    /// Advances every admitted sequence and returns the new tokens, in the order of admission.
    ///
    /// A sequence may make several tokens in one step; they are returned in their order. Long prompts are read in parts, so
    /// that other sequences keep making tokens and a cancelled sequence can be released soon. A sequence whose prompt is
    /// still being read returns nothing. A sequence that fails is returned once with its failure and is released by that.
    /// With nothing admitted, the step does nothing and returns at once.
    fn step(&mut self) -> Vec<(SequenceId, Result<Token, Failure>)>;

    /// Releases a sequence and frees its slot. Does nothing if the sequence is not admitted.
    fn release(&mut self, id: SequenceId);

    /// Counters of the engine since it was loaded.
    fn stats(&self) -> EngineStats;

    /// Computes the vectors of inputs that are given as tokens, in their order. The vector of an input does not depend on
    /// the others.
    ///
    /// # Errors
    /// `invalid-request` if this engine computes no embeddings, or if an input has no tokens or too many.
    fn embed(&mut self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, Failure> {
        let _ = texts;
        Err(no_embeddings())
    }

    /// Log-probability (natural logarithm) of each token of a text given the tokens before it, for all but the first.
    /// Serves measurements and requires an engine without admitted sequences.
    ///
    /// # Errors
    /// `invalid-request` if this engine does not support scoring, or if there are too few or too many tokens.
    fn score(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Failure> {
        let count = tokens.len();
        Err(Failure::new(
            FailureCode::InvalidRequest,
            format!("this engine cannot compute the log-probabilities of {count} tokens: it does not support scoring"),
        ))
    }
}

/// Counters of an engine since it was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineStats {
    /// Sequences that are admitted now.
    pub sequences: u32,
    /// Tokens of the admitted sequences that are in the KV cache now.
    pub cached_tokens: u64,
    /// Tokens of prompts (and of resumed answers) that were computed.
    pub prompt_tokens: u64,
    /// Tokens that were made.
    pub answer_tokens: u64,
    /// Tokens of sequences that were looked up in the prompt cache when the sequences began.
    pub lookup_tokens: u64,
    /// Tokens of `lookup_tokens` that were found in the prompt cache and not computed again.
    pub hit_tokens: u64,
    /// Capacity of the KV cache in pages.
    pub cache_pages: u64,
    /// Pages that admitted sequences use now.
    pub used_pages: u64,
    /// Pages that no sequence uses and that are kept for later prompts.
    pub idle_pages: u64,
    /// Kept pages that were evicted to make room.
    pub evicted_pages: u64,
    /// Size of a page in bytes.
    pub page_bytes: u64,
    /// Number of times that a sequence lost its pages to an older one.
    pub preempted: u64,
    /// Steps in which at least one sequence or input was computed.
    pub steps: u64,
    /// Time spent in those steps.
    pub busy: Duration,
}

impl EngineStats {
    /// Use of the prompt cache, as heartbeats report it. `None` if the engine has no cache.
    pub(crate) fn cache(&self) -> Option<PromptCacheStats> {
        let bytes = |pages| pages * self.page_bytes;
        (self.cache_pages > 0).then(|| PromptCacheStats {
            lookup_tokens: self.lookup_tokens,
            hit_tokens: self.hit_tokens,
            limit_bytes: bytes(self.cache_pages),
            used_bytes: bytes(self.used_pages),
            idle_bytes: bytes(self.idle_pages),
            evicted_bytes: bytes(self.evicted_pages),
        })
    }
}
