//! A limit on which tokens an answer may contain.

use std::fmt;

use rbee_schema::Failure;

use crate::sample::Mask;

/// Limits which tokens may come next in one answer, given the tokens so far.
pub trait Constraint: fmt::Debug + Send {
    /// The tokens that may come next. When the answer is complete, these are the end tokens.
    ///
    /// # Errors
    /// `invalid-request` if computing the set would exceed the limits of one step.
    fn allowed(&mut self) -> Result<Mask, Failure>;

    /// Advances by one token of the answer.
    ///
    /// # Errors
    /// `internal` if the token is not an allowed one.
    fn accept(&mut self, token: u32) -> Result<(), Failure>;
}
