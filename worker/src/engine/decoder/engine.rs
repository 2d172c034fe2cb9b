//! Sequences and their steps.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use rbee_kernels::PAGE_TOKENS;
use rbee_schema::{Failure, FailureCode, Sampling};
use rbee_transformer::{Decoder, KvCache, SequenceChunk};

use super::running::{Part, Running, Turn};
use crate::{
    contract::{Engine, EngineStats, Sequence, SequenceId},
    decide::{
        batch::{Work, plan_rows},
        speculation::Speculation,
    },
    engine::admission::{check_admission, context_filled},
    sample::Token,
};

/// Rows of answers up to which guesses are made: with more, a step is no longer bound by reading the weights.
pub(super) const ROWS_WITH_GUESSES: usize = 8;

pub(super) struct DecoderEngine {
    pub(super) decoder: Decoder,
    pub(super) cache: KvCache,
    slots: u32,
    pub(super) context: u32,
    /// In the order of their admission.
    running: Vec<Running>,
    stats: EngineStats,
}

impl DecoderEngine {
    pub(super) fn new(decoder: Decoder, cache: KvCache, slots: u32, context: u32) -> Self {
        Self { decoder, cache, slots, context, running: Vec::new(), stats: EngineStats::default() }
    }

    /// Makes one token after two. Finds a model that computes nonsense.
    pub(super) fn try_out(&mut self) -> Result<(), Failure> {
        self.admit(SequenceId(0), Sequence::new(vec![0, 0], Sampling::GREEDY))?;
        let made = catch_unwind(AssertUnwindSafe(|| self.step()));
        self.release(SequenceId(0));
        self.stats = EngineStats::default();
        self.cache.clear();
        let panicked = |_| Failure::new(FailureCode::ModelInvalid, "it cannot be computed: its header may be damaged");
        made.map_err(panicked)?.into_iter().try_for_each(|(_, token)| token.map(drop))
    }

    /// What each sequence could do next.
    fn wants(&self) -> Vec<Work> {
        let answering = self.running.iter().filter(|running| running.is_answering()).count();
        let room = ROWS_WITH_GUESSES.checked_div(answering).map_or(0, |rows| rows.saturating_sub(1));
        let room = room.min(self.cache.available() * PAGE_TOKENS);
        let want = |running: &Running| match running.is_answering() {
            true => Work::Decode(running.guess(room, self.context).len()),
            false => Work::Prefill(running.tokens.len() - running.cached),
        };
        self.running.iter().map(want).collect()
    }

    /// What each sequence does, once it has the pages for it. The youngest give way to older ones that need theirs.
    fn parts(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        for (index, rows) in plan_rows(&self.wants()).into_iter().enumerate() {
            if self.running[index].cached == 0 && rows > 0 {
                self.begin(index);
            }
            let part = self.running[index].part(rows);
            let has_room = self.make_room(index, part.tokens.len());
            parts.push(if has_room { part } else { Part { tokens: Vec::new(), guessed: 0, wanted: 0 } });
        }
        parts
    }

    /// Looks for pages that hold the beginning of a sequence already.
    fn begin(&mut self, index: usize) {
        let running = &mut self.running[index];
        self.cache.release(&std::mem::take(&mut running.pages));
        (running.pages, running.cached) = self.cache.match_prefix(&running.tokens);
        running.kept = running.cached / PAGE_TOKENS;
    }

    /// Gives a sequence the pages for so many more tokens; younger ones lose theirs where there are no others.
    fn make_room(&mut self, index: usize, rows: usize) -> bool {
        let needed = (self.running[index].cached + rows).div_ceil(PAGE_TOKENS);
        while self.running[index].pages.len() < needed {
            if let Some(page) = self.cache.allocate() {
                self.running[index].pages.push(page);
                continue;
            }
            let younger = (index + 1..self.running.len()).rev().find(|at| !self.running[*at].pages.is_empty());
            let Some(younger) = younger else { return false };
            self.stats.preempted += 1;
            self.give_way(younger);
        }
        true
    }

    fn give_way(&mut self, index: usize) {
        self.running[index].leave(&mut self.cache);
    }

    /// Computes the parts and returns what each sequence chose; nothing for those that are still being read.
    fn compute(&mut self, parts: &[Part]) -> Vec<Result<Vec<Token>, Failure>> {
        let spans: Vec<SequenceChunk<'_>> = self
            .running
            .iter()
            .zip(parts)
            .filter(|(_, part)| !part.tokens.is_empty())
            .map(|(running, part)| SequenceChunk {
                tokens: &part.tokens,
                start: running.cached,
                pages: &running.pages,
                logit_rows: part.wanted,
            })
            .collect();
        let size = self.decoder.description().vocabulary;
        self.decoder.forward(&mut self.cache, &spans);
        let mut rows = self.decoder.logits().chunks_exact(size);
        let of_each: Vec<Vec<&[f32]>> = parts.iter().map(|part| rows.by_ref().take(part.wanted).collect()).collect();
        let context = self.context as usize;
        let mut turns: Vec<Turn<'_>> =
            self.running.iter_mut().map(|running| Turn { running, chosen: Ok(Vec::new()) }).collect();
        self.decoder.pool().run_chunks(&mut turns, 1, |index, turn| {
            turn[0].chosen = turn[0].running.choose(&of_each[index], &parts[index], context);
        });
        turns.into_iter().map(|turn| turn.chosen).collect()
    }
}

impl Engine for DecoderEngine {
    fn admit(&mut self, id: SequenceId, sequence: Sequence) -> Result<(), Failure> {
        let admitted = self.running.iter().map(|running| running.id);
        check_admission(id, &sequence, admitted, self.slots, self.context)?;
        let Sequence { prompt: mut tokens, emitted, sampling, constraint } = sequence;
        let prompt = tokens.len();
        tokens.extend(emitted);
        let size = self.decoder.description().vocabulary;
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= size) {
            return Err(Failure::new(FailureCode::Internal, format!("token {token} is not one of the model's {size}")));
        }
        let (pages, speculation) = (Vec::new(), Speculation::default());
        self.running.push(Running {
            id,
            tokens,
            prompt,
            cached: 0,
            pages,
            kept: 0,
            sampling,
            constraint,
            speculation,
            made_any: false,
        });
        Ok(())
    }

    fn step(&mut self) -> Vec<(SequenceId, Result<Token, Failure>)> {
        let started = Instant::now();
        if self.running.is_empty() {
            return Vec::new();
        }
        let mut made = self.take_full();
        let parts = self.parts();
        let chosen = self.compute(&parts);
        for (index, (part, chosen)) in parts.iter().zip(chosen).enumerate() {
            let running = &mut self.running[index];
            match chosen {
                Err(failure) => made.push((running.id, Err(failure))),
                Ok(chosen) => {
                    self.stats.prompt_tokens += if running.made_any { 0 } else { part.tokens.len() as u64 };
                    self.stats.answer_tokens += chosen.len() as u64;
                    running.advance(part, &chosen, &mut self.cache);
                    made.extend(chosen.into_iter().map(|token| (running.id, Ok(token))));
                }
            }
        }
        for (id, _) in made.iter().filter(|(_, token)| token.is_err()) {
            self.release(*id);
        }
        self.stats.steps += 1;
        self.stats.busy += started.elapsed();
        made
    }

    fn release(&mut self, id: SequenceId) {
        if let Some(index) = self.running.iter().position(|running| running.id == id) {
            self.running.remove(index).leave(&mut self.cache);
        }
    }

    fn stats(&self) -> EngineStats {
        let cached_tokens = self.running.iter().map(|running| running.cached as u64).sum();
        let cache = self.cache.stats();
        EngineStats {
            sequences: self.running.len() as u32,
            cached_tokens,
            lookup_tokens: cache.lookup_tokens,
            hit_tokens: cache.hit_tokens,
            cache_pages: cache.pages as u64,
            used_pages: cache.used as u64,
            idle_pages: cache.idle as u64,
            evicted_pages: cache.evicted,
            page_bytes: self.decoder.description().page_bytes() as u64,
            ..self.stats
        }
    }

    fn score(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Failure> {
        self.score_text(tokens)
    }
}

impl DecoderEngine {
    /// Sequences that have filled their context: they fail and are gone.
    fn take_full(&mut self) -> Vec<(SequenceId, Result<Token, Failure>)> {
        let context = self.context;
        let is_full = |running: &&Running| running.tokens.len() >= context as usize;
        let full: Vec<SequenceId> = self.running.iter().filter(is_full).map(|running| running.id).collect();
        full.iter().for_each(|id| self.release(*id));
        full.into_iter().map(|id| (id, Err(context_filled(context)))).collect()
    }
}
