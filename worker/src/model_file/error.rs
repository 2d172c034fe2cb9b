//! The two refusals of a model file, and how names from a file are quoted in them.

use rbee_schema::{Failure, FailureCode};

/// A `model-invalid` failure: the file is damaged or contradicts itself.
pub(crate) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(FailureCode::ModelInvalid, message)
}

/// A `model-unsupported` failure: the file is sound, but this worker cannot run its kind of model.
pub(crate) fn unsupported(message: impl Into<String>) -> Failure {
    Failure::new(FailureCode::ModelUnsupported, message)
}

/// A name from a file, escaped and cut to 100 characters: a damaged file may hold a long one of any bytes.
pub(crate) fn printable(name: &str) -> String {
    let mut printable: String = name.escape_debug().take(100).collect();
    if name.len() > 100 {
        printable.push_str("...");
    }
    printable
}
