//! Constrained decoding: grammars that restrict which tokens an answer may have.
//!
//! The crate `llguidance` computes the allowed next tokens from a grammar and the bytes of every token in the vocabulary. A
//! [`GrammarConstraint`] is the state of one answer in its grammar. It depends on the grammar and the tokens so far only: a
//! worker that resumes the answer of another worker replays that worker's tokens first.

mod constraint;
mod vocabulary;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc::{RecvTimeoutError, sync_channel},
    },
    thread,
};

use llguidance::{Matcher, ParserFactory, api::TopLevelGrammar};
use rbee_schema::{Failure, FailureCode};

pub use self::constraint::GrammarConstraint;
use crate::{
    contract::{Constraint as _, Text},
    decide::grammar_limits::{GrammarLimits, refused},
};

/// Stack of the thread that compiles a grammar. The compiler calls itself for each rule that refers to another, and the longest
/// chain of rules within the limits fits. The kernel provides the pages that are used.
const STACK: usize = 128 << 20;

/// Number of grammars that may still be compiled after their time is over. A thread cannot be stopped, and each takes a
/// processor.
const MOST_OVERDUE: u32 = 2;

/// The grammars of one model's answers.
pub struct Grammars {
    text: Arc<dyn Text>,
    limits: GrammarLimits,
    /// Number of grammars that are still compiled after their time is over.
    overdue: Arc<AtomicU32>,
    /// State shared by all grammars. Built with the first grammar, because most models are never used with one.
    factory: OnceLock<Result<Arc<ParserFactory>, Failure>>,
}

impl Grammars {
    /// Grammars over the vocabulary of `text`.
    pub fn new(text: Arc<dyn Text>, limits: GrammarLimits) -> Self {
        Self { text, limits, overdue: Arc::default(), factory: OnceLock::new() }
    }

    /// Compiles a grammar for an answer that already has the tokens `emitted`.
    ///
    /// Blocks for a few milliseconds; the first call with a large vocabulary blocks for some tenths of a second.
    ///
    /// # Errors
    /// - `invalid-request`: the grammar is invalid, too large, or takes too long to compile; the message has the reason;
    /// - `model-unsupported`: the vocabulary has no token that ends an answer;
    /// - `timed-out`: too many earlier grammars are still being compiled;
    /// - `internal`: the tokens so far do not fit the grammar, or the compiler has panicked.
    pub fn constraint(&self, grammar: TopLevelGrammar, emitted: &[u32]) -> Result<GrammarConstraint, Failure> {
        self.limits.check(&grammar)?;
        if self.overdue.load(Ordering::Relaxed) >= MOST_OVERDUE {
            return Err(Failure::new(
                FailureCode::TimedOut,
                "the requested output format cannot be compiled now: this worker still compiles others that take too long",
            ));
        }
        let factory = self.factory.get_or_init(|| vocabulary::factory(self.text.as_ref()).map(Arc::new));
        let (factory, emitted) = (factory.clone()?, emitted.to_vec());
        // Without a buffer: sending fails if nobody waits any more.
        let (sender, compiled) = sync_channel(0);
        let overdue = Arc::clone(&self.overdue);
        // A thread of its own: grammars come from clients, and the compiler may need a large stack.
        let compile = move || {
            if sender.send(compile(&factory, grammar, &emitted)).is_err() {
                overdue.fetch_sub(1, Ordering::Relaxed);
            }
        };
        let started = thread::Builder::new().name("grammar".into()).stack_size(STACK).spawn(compile);
        started.map_err(|cause| {
            Failure::new(FailureCode::Internal, format!("failed to start a thread that compiles a grammar: {cause}"))
        })?;
        match compiled.recv_timeout(self.limits.time) {
            Ok(compiled) => compiled,
            Err(RecvTimeoutError::Timeout) => {
                self.overdue.fetch_add(1, Ordering::Relaxed);
                Err(refused(&format!("its grammar is not compiled after {:?}: make it smaller", self.limits.time)))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(Failure::new(FailureCode::Internal, "the requested output format could not be compiled"))
            }
        }
    }
}

fn compile(factory: &ParserFactory, grammar: TopLevelGrammar, emitted: &[u32]) -> Result<GrammarConstraint, Failure> {
    let parser = factory.create_parser(grammar);
    let parser = parser.map_err(|cause| refused(&constraint::first_line(&cause.to_string())))?;
    let mut constraint = GrammarConstraint::new(Matcher::new(Ok(parser)));
    emitted.iter().try_for_each(|token| constraint.accept(*token))?;
    Ok(constraint)
}

#[cfg(test)]
mod tests;
