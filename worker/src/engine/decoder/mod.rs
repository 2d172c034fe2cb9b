//! The engine that continues text on the processor. It runs GGUF files of every architecture in [`crate::architecture`] and
//! folders with safetensors.
//!
//! One step computes the next tokens of all sequences together. Keys and values are in pages of a KV cache, which sequences
//! with a common prefix share. A sequence that finds no free page makes a younger one give up its pages; that one is computed
//! again later. Because the logits of a token depend on nothing but the tokens before it, it then continues exactly as it
//! would have. Step 5 of a job's path.
//!
//! `load` reads a model from a `source`, `engine` runs its steps, `batch` plans them and owns the pages of the sequences.

mod batch;
mod engine;
mod folder_source;
mod gguf_source;
mod load;
mod memory;
mod score;
mod sequence;
mod source;

pub(crate) use load::{load, load_folder};
