//! The engine: admits sequences and computes their steps.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use rbee_schema::{Failure, FailureCode, Sampling};
use rbee_transformer::{Decoder, KvCache, SequenceChunk};

use super::{
    batch::Batch,
    score::score,
    sequence::{BatchEntry, RunningSequence},
};
use crate::{
    contract::{Engine, EngineStats, Sequence, SequenceId},
    engine::admission::{check_admission, context_filled},
    sample::Token,
};

/// A decoder model with the sequences that it continues.
pub(super) struct DecoderEngine {
    decoder: Decoder,
    batch: Batch,
    slots: u32,
    /// Context length in tokens.
    context: u32,
    stats: EngineStats,
}

/// A sequence that chooses tokens on a thread of the pool, and its choice.
struct Choice<'a> {
    sequence: &'a mut RunningSequence,
    tokens: Result<Vec<Token>, Failure>,
}

impl DecoderEngine {
    pub(super) fn new(decoder: Decoder, cache: KvCache, slots: u32, context: u32) -> Self {
        let batch = Batch::new(cache, context as usize);
        Self { decoder, batch, slots, context, stats: EngineStats::default() }
    }

    /// Makes one token after a prompt of two, to find models that cannot be computed.
    ///
    /// # Errors
    /// `model-invalid` if the logits are not finite or the computation panics.
    pub(super) fn self_test(&mut self) -> Result<(), Failure> {
        self.admit(SequenceId(0), Sequence::new(vec![0, 0], Sampling::GREEDY))?;
        let made = catch_unwind(AssertUnwindSafe(|| self.step()));
        self.release(SequenceId(0));
        self.stats = EngineStats::default();
        self.batch.clear();
        let panicked =
            |_| Failure::new(FailureCode::ModelInvalid, "the model cannot be computed: its header may be damaged");
        made.map_err(panicked)?.into_iter().try_for_each(|(_, token)| token.map(drop))
    }

    /// Computes the entries and returns the tokens that each sequence chose: none while its prompt is still being read.
    fn compute(&mut self, entries: &[BatchEntry]) -> Vec<Result<Vec<Token>, Failure>> {
        let sequences = self.batch.sequences.iter().zip(entries).filter(|(_, entry)| !entry.tokens.is_empty());
        let chunks: Vec<SequenceChunk<'_>> = sequences
            .map(|(sequence, entry)| SequenceChunk {
                tokens: &entry.tokens,
                start: sequence.cached(),
                pages: sequence.pages(),
                logit_rows: entry.logit_rows,
            })
            .collect();
        self.decoder.forward(&mut self.batch.cache, &chunks);
        let vocabulary = self.decoder.description().vocabulary;
        let mut rows = self.decoder.logits().chunks_exact(vocabulary);
        let logits: Vec<Vec<&[f32]>> =
            entries.iter().map(|entry| rows.by_ref().take(entry.logit_rows).collect()).collect();
        let context = self.context as usize;
        let sequences = self.batch.sequences.iter_mut();
        let mut choices: Vec<Choice<'_>> =
            sequences.map(|sequence| Choice { sequence, tokens: Ok(Vec::new()) }).collect();
        self.decoder.pool().run_chunks(&mut choices, 1, |index, choice| {
            choice[0].tokens = choice[0].sequence.choose(&logits[index], &entries[index], context);
        });
        choices.into_iter().map(|choice| choice.tokens).collect()
    }
}

impl Engine for DecoderEngine {
    fn admit(&mut self, id: SequenceId, sequence: Sequence) -> Result<(), Failure> {
        let admitted = self.batch.sequences.iter().map(|sequence| sequence.id);
        check_admission(id, &sequence, admitted, self.slots, self.context)?;
        let vocabulary = self.decoder.description().vocabulary;
        let sequence = RunningSequence::new(id, sequence);
        if let Some(token) = sequence.tokens().iter().find(|token| **token as usize >= vocabulary) {
            let message = format!("token {token} is not in the model's vocabulary of {vocabulary} tokens");
            return Err(Failure::new(FailureCode::Internal, message));
        }
        self.batch.sequences.push(sequence);
        Ok(())
    }

    fn step(&mut self) -> Vec<(SequenceId, Result<Token, Failure>)> {
        let started = Instant::now();
        if self.batch.sequences.is_empty() {
            return Vec::new();
        }
        let full = self.batch.remove_full().into_iter();
        let mut made: Vec<_> = full.map(|id| (id, Err(context_filled(self.context)))).collect();
        let entries = self.batch.plan();
        let chosen = self.compute(&entries);
        for (index, (entry, chosen)) in entries.iter().zip(chosen).enumerate() {
            let sequence = &mut self.batch.sequences[index];
            match chosen {
                Err(failure) => made.push((sequence.id, Err(failure))),
                Ok(chosen) => {
                    self.stats.prompt_tokens += if sequence.has_made_tokens() { 0 } else { entry.tokens.len() as u64 };
                    self.stats.answer_tokens += chosen.len() as u64;
                    sequence.advance(entry, &chosen, &mut self.batch.cache);
                    made.extend(chosen.into_iter().map(|token| (sequence.id, Ok(token))));
                }
            }
        }
        for (id, _) in made.iter().filter(|(_, token)| token.is_err()) {
            self.batch.remove(*id);
        }
        self.stats.steps += 1;
        self.stats.busy += started.elapsed();
        made
    }

    fn release(&mut self, id: SequenceId) {
        self.batch.remove(id);
    }

    fn stats(&self) -> EngineStats {
        let cached_tokens = self.batch.sequences.iter().map(|sequence| sequence.cached() as u64).sum();
        let cache = self.batch.cache_stats();
        EngineStats {
            sequences: self.batch.sequences.len() as u32,
            cached_tokens,
            lookup_tokens: cache.lookup_tokens,
            hit_tokens: cache.hit_tokens,
            cache_pages: cache.pages as u64,
            used_pages: cache.used as u64,
            idle_pages: cache.idle as u64,
            evicted_pages: cache.evicted,
            page_bytes: self.decoder.description().page_bytes() as u64,
            preempted: self.batch.preempted,
            ..self.stats
        }
    }

    fn score(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Failure> {
        score(&mut self.decoder, &mut self.batch.cache, self.context as usize, tokens)
    }
}
