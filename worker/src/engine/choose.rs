//! Chooses the next token of a sequence that may have a constraint.

use rbee_schema::{Failure, Sampling};

use crate::{
    contract::Constraint,
    sample::{Token, sample},
};

/// Chooses the token that follows `history`, and lets the constraint accept it. See [`sample`] for the arguments.
///
/// # Errors
/// Those of [`sample`] and of the [`Constraint`].
pub(crate) fn choose(
    logits: &[f32],
    history: &[u32],
    sampling: &Sampling,
    constraint: Option<&mut (dyn Constraint + 'static)>,
    index: u32,
) -> Result<Token, Failure> {
    let Some(constraint) = constraint else { return sample(logits, history, sampling, None, index) };
    let token = sample(logits, history, sampling, Some(&constraint.allowed()?), index)?;
    constraint.accept(token.id)?;
    Ok(token)
}
