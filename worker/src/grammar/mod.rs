//! Constrained decoding: grammars that restrict which tokens an answer may have.
//!
//! The crate `llguidance` computes the allowed next tokens from a grammar and the bytes of every token in the vocabulary. A
//! [`GrammarConstraint`] is the state of one answer in its grammar. It depends on the grammar and the tokens so far only: a
//! worker that resumes the answer of another worker replays that worker's tokens first.

mod constraint;
mod vocabulary;

use std::sync::{Arc, OnceLock};

use llguidance::{Matcher, ParserFactory, api::TopLevelGrammar};
use rbee_schema::{Failure, FailureCode};

pub use self::constraint::GrammarConstraint;
use crate::contract::{Constraint as _, Text};

/// The grammars of one model's answers.
pub struct Grammars {
    text: Arc<dyn Text>,
    /// State shared by all grammars. Built with the first grammar, because most models are never used with one.
    factory: OnceLock<Result<ParserFactory, Failure>>,
}

impl Grammars {
    /// Grammars over the vocabulary of `text`.
    pub fn new(text: Arc<dyn Text>) -> Self {
        Self { text, factory: OnceLock::new() }
    }

    /// Compiles a grammar for an answer that already has the tokens `emitted`.
    ///
    /// Blocks for a few milliseconds; the first call with a large vocabulary blocks for some tenths of a second.
    ///
    /// # Errors
    /// - `invalid-request`: the grammar is invalid or too large; the message has the reason;
    /// - `model-unsupported`: the vocabulary has no token that ends an answer;
    /// - `internal`: the tokens so far do not fit the grammar.
    pub fn constraint(&self, grammar: TopLevelGrammar, emitted: &[u32]) -> Result<GrammarConstraint, Failure> {
        let factory = self.factory.get_or_init(|| vocabulary::factory(self.text.as_ref())).as_ref();
        let parser = factory.map_err(Clone::clone)?.create_parser(grammar).map_err(|cause| {
            let reason = constraint::first_line(&cause.to_string());
            Failure::new(FailureCode::InvalidRequest, format!("the requested output format cannot be used: {reason}"))
        })?;
        let mut constraint = GrammarConstraint::new(Matcher::new(Ok(parser)));
        emitted.iter().try_for_each(|token| constraint.accept(*token))?;
        Ok(constraint)
    }
}

#[cfg(test)]
mod tests;
