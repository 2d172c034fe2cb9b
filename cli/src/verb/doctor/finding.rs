//! A finding of `rbee doctor`.

use serde::Serialize;

/// Result of one check.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Finding {
    pub(super) what: String,
    pub(super) ok: bool,
    pub(super) found: String,
}

impl Finding {
    /// The check found nothing wrong.
    pub(super) fn ok(what: impl Into<String>, found: impl ToString) -> Self {
        Self { what: what.into(), ok: true, found: found.to_string() }
    }

    /// The check found a problem.
    pub(super) fn problem(what: impl Into<String>, found: impl ToString) -> Self {
        Self { what: what.into(), ok: false, found: found.to_string() }
    }
}
