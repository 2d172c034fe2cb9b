//! One admitted sequence: its tokens, the tokens of its next step, and the choice of new ones.

use rbee_kernels::PAGE_TOKENS;
use rbee_schema::{Failure, Sampling};
use rbee_transformer::{KvCache, PageId};

use crate::{
    contract::{Constraint, Sequence, SequenceId},
    decide::draft::Drafter,
    engine::choose::choose,
    sample::Token,
};

/// A sequence between its admission and its release.
pub(super) struct RunningSequence {
    pub(super) id: SequenceId,
    /// Tokens of the prompt, then of the answer.
    tokens: Vec<u32>,
    /// Number of `tokens` that belong to the prompt.
    prompt: usize,
    /// Number of `tokens` whose keys and values are in `pages`.
    cached: usize,
    pages: Vec<PageId>,
    /// Number of `pages` that are full, and so registered in the cache.
    registered: usize,
    sampling: Sampling,
    /// Limits the answer to an output format.
    constraint: Option<Box<dyn Constraint>>,
    drafter: Drafter,
    /// True once this engine has made a token of it.
    has_made_tokens: bool,
}

/// Tokens of one sequence in a step, from the first one that is not cached. Drafted tokens come last.
#[derive(Default)]
pub(super) struct BatchEntry {
    pub(super) tokens: Vec<u32>,
    /// Number of drafted tokens.
    pub(super) drafted: usize,
    /// Number of tokens, counted from the last, whose logits are computed.
    pub(super) logit_rows: usize,
}

impl RunningSequence {
    pub(super) fn new(id: SequenceId, sequence: Sequence) -> Self {
        let Sequence { prompt, emitted, sampling, constraint } = sequence;
        Self {
            id,
            prompt: prompt.len(),
            tokens: [prompt, emitted].concat(),
            cached: 0,
            pages: Vec::new(),
            registered: 0,
            sampling,
            constraint,
            drafter: Drafter::default(),
            has_made_tokens: false,
        }
    }

    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    pub(super) fn cached(&self) -> usize {
        self.cached
    }

    pub(super) fn pages(&self) -> &[PageId] {
        &self.pages
    }

    pub(super) fn has_made_tokens(&self) -> bool {
        self.has_made_tokens
    }

    /// True if all tokens but the last are cached: the next step makes a token.
    pub(super) fn is_answering(&self) -> bool {
        self.has_made_tokens && self.cached + 1 == self.tokens.len()
    }

    /// Number of tokens that are not cached.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.cached
    }

    /// Number of tokens that the sequence would draft, at most `limit`, within a context of `context` tokens.
    pub(super) fn draft_len(&self, limit: usize, context: usize) -> usize {
        let left = context.saturating_sub(self.tokens.len() + 1);
        self.drafter.draft(&self.tokens, limit.min(left)).len()
    }

    /// Finds cached pages that hold the beginning of the tokens, in place of its own.
    pub(super) fn match_prefix(&mut self, cache: &mut KvCache) {
        cache.release(&std::mem::take(&mut self.pages));
        (self.pages, self.cached) = cache.match_prefix(&self.tokens);
        self.registered = self.cached / PAGE_TOKENS;
    }

    /// Number of pages that are missing for `rows` more tokens.
    pub(super) fn missing_pages(&self, rows: usize) -> usize {
        (self.cached + rows).div_ceil(PAGE_TOKENS).saturating_sub(self.pages.len())
    }

    pub(super) fn add_page(&mut self, page: PageId) {
        self.pages.push(page);
    }

    /// The next `rows` tokens: pending ones, and drafted ones if the sequence is answering.
    pub(super) fn entry(&self, rows: usize) -> BatchEntry {
        let pending = &self.tokens[self.cached..];
        let mut tokens = pending[..rows.min(pending.len())].to_vec();
        let limit = rows - tokens.len();
        if tokens.len() < pending.len() || tokens.is_empty() || !self.is_answering() {
            let is_complete = tokens.len() == pending.len() && !tokens.is_empty();
            return BatchEntry { tokens, drafted: 0, logit_rows: usize::from(is_complete) };
        }
        let draft = self.drafter.draft(&self.tokens, limit);
        tokens.extend(draft);
        BatchEntry { tokens, drafted: draft.len(), logit_rows: 1 + draft.len() }
    }

    /// Chooses the tokens that follow, one per row of logits, as long as each is the drafted one.
    pub(super) fn choose(
        &mut self,
        logits: &[&[f32]],
        entry: &BatchEntry,
        context: usize,
    ) -> Result<Vec<Token>, Failure> {
        let (mut tokens, mut chosen) = (self.tokens.clone(), Vec::new());
        let draft = &entry.tokens[entry.tokens.len() - entry.drafted..];
        for (row, logits) in logits.iter().enumerate() {
            if tokens.len() >= context {
                break;
            }
            let index = (tokens.len() - self.prompt) as u32;
            let token = choose(logits, &tokens, &self.sampling, self.constraint.as_deref_mut(), index)?;
            let id = token.id;
            chosen.push(token);
            tokens.push(id);
            if draft.get(row) != Some(&id) {
                break;
            }
        }
        Ok(chosen)
    }

    /// Records a step: its computed tokens are cached, and the chosen ones follow.
    pub(super) fn advance(&mut self, entry: &BatchEntry, chosen: &[Token], cache: &mut KvCache) {
        if entry.tokens.is_empty() {
            return;
        }
        let accepted = chosen.len().saturating_sub(1);
        self.drafter.record(entry.drafted, accepted, chosen.len());
        self.cached += entry.tokens.len() - entry.drafted + accepted;
        self.tokens.extend(chosen.iter().map(|token| token.id));
        self.has_made_tokens |= !chosen.is_empty();
        while (self.registered + 1) * PAGE_TOKENS <= self.cached {
            if let Some(tokens) = self.tokens[self.registered * PAGE_TOKENS..].first_chunk::<PAGE_TOKENS>() {
                cache.register(&mut self.pages[..=self.registered], tokens);
            }
            self.registered += 1;
        }
    }

    /// Releases the pages. They stay registered for other sequences; the last one as far as it is filled.
    pub(super) fn release_pages(&mut self, cache: &mut KvCache) {
        let end = &self.tokens[self.registered * PAGE_TOKENS..self.cached];
        if !end.is_empty() {
            cache.register(&mut self.pages[..=self.registered], end);
        }
        cache.release(&std::mem::take(&mut self.pages));
        (self.cached, self.registered) = (0, 0);
    }
}
