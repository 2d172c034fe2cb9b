//! The forward pass of encoder models of BERT's family, many texts per call.
//!
//! An [`EncoderDescription`] defines what a model computes, [`EncoderWeights`] are packed from a file's tensors by it,
//! and [`Encoder::encode`] turns texts into vectors: one per text, pooled and normalized as the description defines.

mod description;
mod forward;
mod pooling;
mod weights;

pub use description::{EncoderDescription, Pooling};
pub use forward::Encoder;
pub use weights::EncoderWeights;
