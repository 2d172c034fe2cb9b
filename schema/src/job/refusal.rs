//! Refusals of a request.

use crate::{Failure, FailureCode};

pub(super) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(FailureCode::InvalidRequest, message)
}

pub(super) fn check_count(field: &str, count: usize, most: usize, what: &str) -> Result<(), Failure> {
    if count > most {
        return Err(invalid(format!("{field} has {count} {what}: at most {most} are allowed")));
    }
    Ok(())
}
