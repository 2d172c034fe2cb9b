//! What an answer may be, token by token.
//!
//! A grammar is known by the crate `llguidance`: from the bytes of every token of a vocabulary and a grammar it tells
//! which tokens may come next. A [`GrammarConstraint`] is one answer's way through its grammar. It depends on the grammar and
//! the tokens so far alone: a worker that goes on with another's answer lets it take the tokens of that one first.

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
    /// What all of them share. Made when the first is asked for, because most models are never asked.
    factory: OnceLock<Result<ParserFactory, Failure>>,
}

impl Grammars {
    /// Those in the vocabulary of `text`.
    pub fn new(text: Arc<dyn Text>) -> Self {
        Self { text, factory: OnceLock::new() }
    }

    /// The way through a grammar of an answer that has the tokens `emitted` already.
    ///
    /// Blocks: the first time for some tenths of a second with a large vocabulary, then for some milliseconds.
    ///
    /// # Errors
    /// - `invalid-request`: the grammar is none, or too large; with the reason;
    /// - `model-unsupported`: answers of this model do not end;
    /// - `internal`: the tokens so far do not fit the grammar.
    pub fn constraint(&self, grammar: TopLevelGrammar, emitted: &[u32]) -> Result<GrammarConstraint, Failure> {
        let factory = self.factory.get_or_init(|| vocabulary::factory(self.text.as_ref())).as_ref();
        let parser = factory.map_err(Clone::clone)?.create_parser(grammar).map_err(|cause| {
            let reason = first_line(&cause.to_string());
            Failure::new(FailureCode::InvalidRequest, format!("the form that was asked for is not possible: {reason}"))
        })?;
        let mut constraint = GrammarConstraint::new(Matcher::new(Ok(parser)));
        emitted.iter().try_for_each(|token| constraint.accept(*token))?;
        Ok(constraint)
    }
}

/// Further lines are for those who look for defects in the crate.
fn first_line(cause: &str) -> String {
    cause.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
