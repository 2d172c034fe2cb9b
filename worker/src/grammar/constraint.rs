//! State of one answer in its grammar.

use std::fmt;

use llguidance::Matcher;
use rbee_schema::{Failure, FailureCode};

use crate::{contract::Constraint, sample::Mask};

/// Computes the allowed next tokens of one answer from its tokens so far.
pub struct GrammarConstraint {
    matcher: Matcher,
}

impl GrammarConstraint {
    pub(super) fn new(matcher: Matcher) -> Self {
        Self { matcher }
    }
}

impl Constraint for GrammarConstraint {
    fn allowed(&mut self) -> Result<Mask, Failure> {
        let allowed = self.matcher.compute_mask_or_eos().map_err(|cause| {
            let reason = first_line(&cause.to_string());
            Failure::new(FailureCode::InvalidRequest, format!("the requested output format is too complex: {reason}"))
        })?;
        Ok(Mask::new(allowed.into()))
    }

    fn accept(&mut self, token: u32) -> Result<(), Failure> {
        // Tokens after the end are not part of the answer.
        if self.matcher.is_stopped() {
            return Ok(());
        }
        self.matcher.consume_token(token).map_err(|cause| {
            let reason = first_line(&cause.to_string());
            Failure::new(
                FailureCode::Internal,
                format!("token {token} does not fit the requested output format: {reason}"),
            )
        })
    }
}

impl fmt::Debug for GrammarConstraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarConstraint").field("stopped", &self.matcher.is_stopped()).finish_non_exhaustive()
    }
}

/// First line of a message of `llguidance`. The other lines are debug output.
pub(super) fn first_line(cause: &str) -> String {
    cause.lines().next().unwrap_or_default().to_owned()
}
