//! The forward pass of decoder models, for many sequences at a time.
//!
//! A [`Description`] says what a model computes: sizes, norms, positions, activations. [`Weights`] are packed by it from a
//! file's tensors, [`Cache`] keeps keys and values in pages that sequences share where they begin alike, and
//! [`Decoder::forward`] advances any number of sequences by any number of tokens each.
//!
//! The logits of a token depend on the tokens before it alone: not on what else is computed beside it, nor on how its
//! prompt was cut, nor on the processor (see [`rbee_kernels`]).

mod cache;
mod decoder;
mod description;
pub mod encoder;
mod memory;
mod positions;
mod tensors;
mod weights;

pub use cache::{Cache, CacheStats, Page};
pub use decoder::{Decoder, Span};
pub use description::{Description, Layer, Rope, Scaling};
pub use memory::{Memory, TensorSize};
pub use rbee_kernels::{Activation, Isa, Kind, Pairs, Pool};
pub use tensors::{LoadError, Packer, Tensor, Tensors};
pub use weights::Weights;
