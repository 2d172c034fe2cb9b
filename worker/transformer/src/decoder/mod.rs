//! The forward pass of decoder models, many sequences per step.
//!
//! A [`DecoderDescription`] defines what a model computes, [`DecoderWeights`] are packed from a file's tensors by it,
//! a [`KvCache`] keeps keys and values in pages that sequences with a common prefix share, and [`Decoder::forward`] advances
//! any number of sequences by any number of tokens each.

mod description;
mod forward;
mod kv_cache;
mod memory;
mod rope;
mod weights;

pub use description::{DecoderDescription, Layer, Rope, RopeScaling};
pub use forward::{Decoder, SequenceChunk};
pub use kv_cache::{KvCache, KvCacheStats, PageId};
pub use memory::{ModelMemory, StepLimits};
pub use weights::DecoderWeights;
