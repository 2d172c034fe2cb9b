//! Model files: GGUF files, and folders with weights in the safetensors format.
//!
//! Model files come from anywhere, so nothing in them is trusted: every count and offset is checked before it is used.
//! This module reads bytes and knows no tokenizer and no architecture: [`crate::text`] and [`crate::architecture`] build on it.

pub mod error;
pub mod gguf;
pub mod json_file;
mod mapped_file;
mod safetensors;

pub use self::safetensors::Safetensors;
