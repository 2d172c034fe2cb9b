//! What is in a model's file: its header, its tokenizer and its chat template. The weights are the engine's.
//!
//! A file may come from anywhere, so nothing in it is believed: every count is checked before it is used.

mod alphabet;
pub mod architecture;
pub mod gguf;
pub mod metadata;
pub mod special;
mod split;
pub mod template;
pub mod text;
pub mod tokenizer;

use rbee_schema::{Failure, FailureCode};

/// The file is damaged, or not what its name says.
pub(crate) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(FailureCode::ModelInvalid, message)
}

/// The file is sound, but of a kind that cannot be run.
pub(crate) fn unsupported(message: impl Into<String>) -> Failure {
    Failure::new(FailureCode::ModelUnsupported, message)
}
