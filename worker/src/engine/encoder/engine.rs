//! The engine: computes the vectors of texts. It admits no sequences.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use rbee_schema::{Failure, FailureCode};
use rbee_transformer::Encoder;

use crate::{
    contract::{Engine, EngineStats, Sequence, SequenceId},
    sample::Token,
};

/// An encoder model and its counters.
pub(super) struct EncoderEngine {
    encoder: Encoder,
    stats: EngineStats,
}

impl EncoderEngine {
    pub(super) fn new(encoder: Encoder) -> Self {
        Self { encoder, stats: EngineStats::default() }
    }

    /// Computes the vector of two tokens, to find models that cannot be computed.
    ///
    /// # Errors
    /// `model-invalid` if the vector is not finite or the computation panics.
    pub(super) fn self_test(&mut self) -> Result<(), Failure> {
        let vectors = catch_unwind(AssertUnwindSafe(|| self.encoder.encode(&[&[0, 0]])));
        let is_finite = vectors.is_ok_and(|vectors| vectors.iter().flatten().all(|number| number.is_finite()));
        let message = "the vectors are not finite numbers: the weights may be damaged";
        if is_finite { Ok(()) } else { Err(Failure::new(FailureCode::ModelInvalid, message)) }
    }
}

impl Engine for EncoderEngine {
    fn admit(&mut self, _: SequenceId, _: Sequence) -> Result<(), Failure> {
        let message = "this engine computes embeddings and does not continue text";
        Err(Failure::new(FailureCode::InvalidRequest, message))
    }

    fn step(&mut self) -> Vec<(SequenceId, Result<Token, Failure>)> {
        Vec::new()
    }

    fn release(&mut self, _: SequenceId) {}

    fn stats(&self) -> EngineStats {
        self.stats
    }

    fn embed(&mut self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, Failure> {
        let started = Instant::now();
        let description = self.encoder.description();
        let (limit, vocabulary) = (description.max_tokens(), description.vocabulary);
        let is_valid = |text: &&[u32]| {
            (1..=limit).contains(&text.len()) && text.iter().all(|token| (*token as usize) < vocabulary)
        };
        if !texts.iter().all(is_valid) {
            let message =
                format!("a text does not have 1 to {limit} tokens, or has one outside the vocabulary of {vocabulary}");
            return Err(Failure::new(FailureCode::InvalidRequest, message));
        }
        let vectors = self.encoder.encode(texts);
        self.stats.prompt_tokens += texts.iter().map(|text| text.len() as u64).sum::<u64>();
        self.stats.steps += 1;
        self.stats.busy += started.elapsed();
        Ok(vectors)
    }
}
