//! What is in a model's file: its header, its tokenizer and its chat template. The weights are the engine's.
//!
//! A file may come from anywhere, so nothing in it is believed: every count is checked before it is used.

mod alphabet;
pub mod architecture;
pub mod bert;
mod built_in;
mod byte_pairs;
pub mod config;
mod dialect;
mod extent;
mod fields;
mod folder;
pub mod gguf;
pub mod header;
mod kind;
mod mapped;
pub mod metadata;
mod moment;
pub mod passage;
pub mod safetensors;
mod sentence_piece;
pub mod special;
mod split;
pub mod template;
pub mod text;
pub mod tokenizer;
pub mod turns;
mod vocabulary;

pub(crate) use self::folder::json;

use rbee_schema::{Failure, FailureCode};

/// The file is damaged, or not what its name says.
pub(crate) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(FailureCode::ModelInvalid, message)
}

/// The file is sound, but of a kind that cannot be run.
pub(crate) fn unsupported(message: impl Into<String>) -> Failure {
    Failure::new(FailureCode::ModelUnsupported, message)
}

/// A name as it can stand in a message: a damaged one may be long, and hold anything.
fn shown(name: &str) -> String {
    let mut shown: String = name.escape_debug().take(100).collect();
    if name.len() > 100 {
        shown.push_str("...");
    }
    shown
}
