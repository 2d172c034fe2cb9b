//! Sequences and their steps.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use rbee_decoder::{Cache, Decoder, Page, Span};
use rbee_kernels::PAGE;
use rbee_schema::{Failure, FailureCode, Sampling};

use crate::{
    decide::{
        batch::{Want, rows},
        guess::Luck,
    },
    engine::{Engine, EngineStats, Sequence, SequenceId, Token, check_admission, context_filled},
    sample::sample,
};

/// Rows of answers up to which guesses are made: with more, a step is no longer bound by reading the weights.
const ROWS_WITH_GUESSES: usize = 8;

pub(super) struct DecoderEngine {
    decoder: Decoder,
    cache: Cache,
    slots: u32,
    context: u32,
    /// In the order of their admission.
    running: Vec<Running>,
    stats: EngineStats,
}

struct Running {
    id: SequenceId,
    /// Prompt, then answer.
    tokens: Vec<u32>,
    /// How many of them are the prompt's.
    prompt: usize,
    /// How many of them have keys and values in `pages`.
    cached: usize,
    pages: Vec<Page>,
    /// How many of these are full, and so known to the cache.
    kept: usize,
    sampling: Sampling,
    luck: Luck,
    /// Whether it has made a token here.
    made_any: bool,
}

/// What one sequence does in a step: tokens from the first that is not cached, the guessed ones last.
struct Part {
    tokens: Vec<u32>,
    guessed: usize,
    wanted: usize,
}

impl DecoderEngine {
    pub(super) fn new(decoder: Decoder, cache: Cache, slots: u32, context: u32) -> Self {
        Self { decoder, cache, slots, context, running: Vec::new(), stats: EngineStats::default() }
    }

    /// Makes one token after two. Finds a model that computes nonsense.
    pub(super) fn try_out(&mut self) -> Result<(), Failure> {
        self.admit(SequenceId(0), Sequence { prompt: vec![0, 0], emitted: Vec::new(), sampling: Sampling::GREEDY })?;
        let made = catch_unwind(AssertUnwindSafe(|| self.step()));
        self.release(SequenceId(0));
        self.stats = EngineStats::default();
        let panicked = |_| Failure::new(FailureCode::ModelInvalid, "it cannot be computed: its header may be damaged");
        made.map_err(panicked)?.into_iter().try_for_each(|(_, token)| token.map(drop))
    }

    /// What each sequence could do next.
    fn wants(&self) -> Vec<Want> {
        let answering = self.running.iter().filter(|running| running.is_answering()).count();
        let room = ROWS_WITH_GUESSES.checked_div(answering).map_or(0, |rows| rows.saturating_sub(1));
        let room = room.min(self.cache.available() * PAGE);
        let want = |running: &Running| match running.is_answering() {
            true => Want::Answer(running.guess(room, self.context).len()),
            false => Want::Read(running.tokens.len() - running.cached),
        };
        self.running.iter().map(want).collect()
    }

    /// What each sequence does, once it has the pages for it. The youngest give way to older ones that need theirs.
    fn parts(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        for (index, rows) in rows(&self.wants()).into_iter().enumerate() {
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
        running.pages = self.cache.begin(&running.tokens);
        running.kept = running.pages.len();
        running.cached = running.kept * PAGE;
    }

    /// Gives a sequence the pages for so many more tokens; younger ones lose theirs where there are no others.
    fn make_room(&mut self, index: usize, rows: usize) -> bool {
        let needed = (self.running[index].cached + rows).div_ceil(PAGE);
        while self.running[index].pages.len() < needed {
            if let Some(page) = self.cache.page() {
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
        let running = &mut self.running[index];
        self.cache.release(&std::mem::take(&mut running.pages));
        (running.cached, running.kept) = (0, 0);
    }

    /// Computes the parts and returns what each sequence chose; nothing for those that are still being read.
    fn compute(&mut self, parts: &[Part]) -> Vec<Result<Vec<Token>, Failure>> {
        let spans: Vec<Span<'_>> = self
            .running
            .iter()
            .zip(parts)
            .filter(|(_, part)| !part.tokens.is_empty())
            .map(|(running, part)| Span {
                tokens: &part.tokens,
                start: running.cached,
                pages: &running.pages,
                wanted: part.wanted,
            })
            .collect();
        let size = self.decoder.description().vocabulary;
        self.decoder.forward(&mut self.cache, &spans);
        let mut rows = self.decoder.logits().chunks_exact(size);
        let of_each: Vec<Vec<&[f32]>> = parts.iter().map(|part| rows.by_ref().take(part.wanted).collect()).collect();
        let mut chosen: Vec<Result<Vec<Token>, Failure>> = parts.iter().map(|_| Ok(Vec::new())).collect();
        let (running, context) = (&self.running, self.context as usize);
        self.decoder.pool().run_chunks(&mut chosen, 1, |index, chosen| {
            chosen[0] = running[index].choose(&of_each[index], &parts[index], context);
        });
        chosen
    }
}

impl Engine for DecoderEngine {
    fn admit(&mut self, id: SequenceId, sequence: Sequence) -> Result<(), Failure> {
        let admitted = self.running.iter().map(|running| running.id);
        check_admission(id, &sequence, admitted, self.slots, self.context)?;
        let Sequence { prompt: mut tokens, emitted, sampling } = sequence;
        let prompt = tokens.len();
        tokens.extend(emitted);
        let size = self.decoder.description().vocabulary;
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= size) {
            return Err(Failure::new(FailureCode::Internal, format!("token {token} is not one of the model's {size}")));
        }
        let (pages, luck) = (Vec::new(), Luck::default());
        self.running.push(Running { id, tokens, prompt, cached: 0, pages, kept: 0, sampling, luck, made_any: false });
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
            self.cache.release(&self.running.remove(index).pages);
        }
    }

    fn stats(&self) -> EngineStats {
        let cached_tokens = self.running.iter().map(|running| running.cached as u64).sum();
        let cache = self.cache.stats();
        EngineStats {
            sequences: self.running.len() as u32,
            cached_tokens,
            asked_tokens: cache.asked_tokens,
            found_tokens: cache.found_tokens,
            cache_pages: cache.pages as u64,
            used_pages: cache.used as u64,
            known_pages: cache.idle as u64,
            ..self.stats
        }
    }

    fn score(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Failure> {
        self.score_text(tokens)
    }
}

/// Tokens whose logits are held at a time while a text is scored.
const SCORED_AT_ONCE: usize = 64;

impl DecoderEngine {
    fn score_text(&mut self, tokens: &[u32]) -> Result<Vec<f32>, Failure> {
        let size = self.decoder.description().vocabulary;
        let is_known = tokens.iter().all(|token| (*token as usize) < size);
        if tokens.len() < 2 || tokens.len() > self.context as usize || !is_known {
            let (count, context) = (tokens.len(), self.context);
            let expected = format!("expected 2 to {context} tokens of its vocabulary");
            return Err(Failure::new(FailureCode::InvalidRequest, format!("a text of {count} tokens: {expected}")));
        }
        let pages: Option<Vec<Page>> = (0..tokens.len().div_ceil(PAGE)).map(|_| self.cache.page()).collect();
        let pages = pages.ok_or_else(|| Failure::new(FailureCode::QueueFull, "other sequences use the cache"))?;
        let mut scores = Vec::with_capacity(tokens.len() - 1);
        for (part, start) in tokens.chunks(SCORED_AT_ONCE).zip((0..).step_by(SCORED_AT_ONCE)) {
            let span = Span { tokens: part, start, pages: &pages, wanted: part.len() };
            self.decoder.forward(&mut self.cache, &[span]);
            let rows = self.decoder.logits().chunks_exact(size);
            scores.extend(rows.zip(&tokens[start + 1..]).map(|(logits, next)| log_probability(logits, *next)));
        }
        self.cache.release(&pages);
        Ok(scores)
    }

    /// Sequences that have filled their context: they fail and are gone.
    fn take_full(&mut self) -> Vec<(SequenceId, Result<Token, Failure>)> {
        let context = self.context;
        let is_full = |running: &&Running| running.tokens.len() >= context as usize;
        let full: Vec<SequenceId> = self.running.iter().filter(is_full).map(|running| running.id).collect();
        full.iter().for_each(|id| self.release(*id));
        full.into_iter().map(|id| (id, Err(context_filled(context)))).collect()
    }
}

/// The logarithm of a token's softmax.
fn log_probability(logits: &[f32], token: u32) -> f32 {
    let highest = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
    let total: f64 = logits.iter().map(|logit| (f64::from(*logit) - highest).exp()).sum();
    (f64::from(logits[token as usize]) - highest - total.ln()) as f32
}

impl Running {
    /// Whether all but its last token is cached.
    fn is_answering(&self) -> bool {
        self.made_any && self.cached + 1 == self.tokens.len()
    }

    /// What may follow, within `room` and within what is left of the context.
    fn guess(&self, room: usize, context: u32) -> &[u32] {
        let left = (context as usize).saturating_sub(self.tokens.len() + 1);
        self.luck.guess(&self.tokens, room.min(left))
    }

    fn part(&self, rows: usize) -> Part {
        let rest = &self.tokens[self.cached..];
        let mut tokens = rest[..rows.min(rest.len())].to_vec();
        let guessed = rows - tokens.len();
        if tokens.len() < rest.len() || tokens.is_empty() || !self.is_answering() {
            let is_whole = tokens.len() == rest.len() && !tokens.is_empty();
            return Part { tokens, guessed: 0, wanted: usize::from(is_whole) };
        }
        let guesses = self.luck.guess(&self.tokens, guessed);
        tokens.extend(guesses);
        Part { tokens, guessed: guesses.len(), wanted: 1 + guesses.len() }
    }

    /// The tokens that follow, as far as the guesses before each were right.
    fn choose(&self, logits: &[&[f32]], part: &Part, context: usize) -> Result<Vec<Token>, Failure> {
        let (mut tokens, mut chosen) = (self.tokens.clone(), Vec::new());
        let guesses = &part.tokens[part.tokens.len() - part.guessed..];
        for (row, logits) in logits.iter().enumerate() {
            if tokens.len() >= context {
                break;
            }
            let index = (tokens.len() - self.prompt) as u32;
            let token = sample(logits, &tokens, &self.sampling, index)?;
            let id = token.id;
            chosen.push(token);
            tokens.push(id);
            if guesses.get(row) != Some(&id) {
                break;
            }
        }
        Ok(chosen)
    }

    fn advance(&mut self, part: &Part, chosen: &[Token], cache: &mut Cache) {
        if part.tokens.is_empty() {
            return;
        }
        let right = chosen.len().saturating_sub(1);
        self.luck.learn(part.guessed, right, chosen.len());
        self.cached += part.tokens.len() - part.guessed + right;
        self.tokens.extend(chosen.iter().map(|token| token.id));
        self.made_any |= !chosen.is_empty();
        while (self.kept + 1) * PAGE <= self.cached {
            if let Some(tokens) = self.tokens[self.kept * PAGE..].first_chunk::<PAGE>() {
                cache.keep(&mut self.pages[..=self.kept], tokens);
            }
            self.kept += 1;
        }
    }
}
