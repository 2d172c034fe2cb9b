//! One sequence: what it has, what it does next, and what it chooses.

use rbee_kernels::PAGE_TOKENS;
use rbee_schema::{Failure, Sampling};
use rbee_transformer::{KvCache, PageId};

use crate::{
    contract::{Constraint, SequenceId},
    decide::speculation::Speculation,
    engine::choose::choose,
    sample::Token,
};

pub(super) struct Running {
    pub(super) id: SequenceId,
    /// Prompt, then answer.
    pub(super) tokens: Vec<u32>,
    /// How many of them are the prompt's.
    pub(super) prompt: usize,
    /// How many of them have keys and values in `pages`.
    pub(super) cached: usize,
    pub(super) pages: Vec<PageId>,
    /// How many of these are full, and so known to the cache.
    pub(super) kept: usize,
    pub(super) sampling: Sampling,
    /// What form the answer has.
    pub(super) constraint: Option<Box<dyn Constraint>>,
    pub(super) speculation: Speculation,
    /// Whether it has made a token here.
    pub(super) made_any: bool,
}

/// A sequence that chooses, and what it chose.
pub(super) struct Turn<'a> {
    pub(super) running: &'a mut Running,
    pub(super) chosen: Result<Vec<Token>, Failure>,
}

/// What one sequence does in a step: tokens from the first that is not cached, the guessed ones last.
pub(super) struct Part {
    pub(super) tokens: Vec<u32>,
    pub(super) guessed: usize,
    pub(super) wanted: usize,
}

impl Running {
    /// Whether all but its last token is cached.
    pub(super) fn is_answering(&self) -> bool {
        self.made_any && self.cached + 1 == self.tokens.len()
    }

    /// What may follow, within `room` and within what is left of the context.
    pub(super) fn guess(&self, room: usize, context: u32) -> &[u32] {
        let left = (context as usize).saturating_sub(self.tokens.len() + 1);
        self.speculation.draft(&self.tokens, room.min(left))
    }

    pub(super) fn part(&self, rows: usize) -> Part {
        let rest = &self.tokens[self.cached..];
        let mut tokens = rest[..rows.min(rest.len())].to_vec();
        let guessed = rows - tokens.len();
        if tokens.len() < rest.len() || tokens.is_empty() || !self.is_answering() {
            let is_whole = tokens.len() == rest.len() && !tokens.is_empty();
            return Part { tokens, guessed: 0, wanted: usize::from(is_whole) };
        }
        let guesses = self.speculation.draft(&self.tokens, guessed);
        tokens.extend(guesses);
        Part { tokens, guessed: guesses.len(), wanted: 1 + guesses.len() }
    }

    /// The tokens that follow, as far as the guesses before each were right.
    pub(super) fn choose(&mut self, logits: &[&[f32]], part: &Part, context: usize) -> Result<Vec<Token>, Failure> {
        let (mut tokens, mut chosen) = (self.tokens.clone(), Vec::new());
        let guesses = &part.tokens[part.tokens.len() - part.guessed..];
        for (row, logits) in logits.iter().enumerate() {
            if tokens.len() >= context {
                break;
            }
            let index = (tokens.len() - self.prompt) as u32;
            let token = choose(logits, &tokens, &self.sampling, self.constraint.as_deref_mut(), index)?;
            let id = token.id;
            chosen.push(token);
            tokens.push(id);
            if guesses.get(row) != Some(&id) {
                break;
            }
        }
        Ok(chosen)
    }

    pub(super) fn advance(&mut self, part: &Part, chosen: &[Token], cache: &mut KvCache) {
        if part.tokens.is_empty() {
            return;
        }
        let right = chosen.len().saturating_sub(1);
        self.speculation.record(part.guessed, right, chosen.len());
        self.cached += part.tokens.len() - part.guessed + right;
        self.tokens.extend(chosen.iter().map(|token| token.id));
        self.made_any |= !chosen.is_empty();
        while (self.kept + 1) * PAGE_TOKENS <= self.cached {
            if let Some(tokens) = self.tokens[self.kept * PAGE_TOKENS..].first_chunk::<PAGE_TOKENS>() {
                cache.register(&mut self.pages[..=self.kept], tokens);
            }
            self.kept += 1;
        }
    }
    /// Gives up its pages. They stay known, the last as far as it is filled.
    pub(super) fn leave(&mut self, cache: &mut KvCache) {
        let end = &self.tokens[self.kept * PAGE_TOKENS..self.cached];
        if !end.is_empty() {
            cache.register(&mut self.pages[..=self.kept], end);
        }
        cache.release(&std::mem::take(&mut self.pages));
        (self.cached, self.kept) = (0, 0);
    }
}
