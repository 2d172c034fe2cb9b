//! The forward passes of transformer models on the processor.
//!
//! - [`decoder`]: models that continue text, many sequences per step, with keys and values in pages of a [`KvCache`].
//! - [`encoder`]: models of BERT's family that turn texts into vectors, many texts per call.
//!
//! In both, a description defines as data what a model computes: sizes, norms, positions, activations. The weights are
//! packed once from the tensors of a file, through the trait [`TensorSource`]. The forward pass reads both.
//!
//! The result for a token or a text depends on its own tokens alone: not on what else is computed beside it, on how a
//! prompt was cut into chunks, on the number of threads or on the processor (see [`rbee_kernels`]).
//!
//! Code for both forward passes: `tensor` for tensors of a file and the errors of loading them, `packer` for packing,
//! `linear` for linear layers and the threads that compute them, `scratch` for the buffers between layers.

pub mod decoder;
pub mod encoder;
mod linear;
mod packer;
mod scratch;
mod tensor;

pub use decoder::{
    Decoder, DecoderDescription, DecoderWeights, KvCache, KvCacheStats, Layer, ModelMemory, PageId, Rope, RopeScaling,
    SequenceChunk, StepLimits,
};
pub use encoder::{Encoder, EncoderDescription, EncoderWeights, Pooling};
pub use rbee_kernels::{Activation, GateActivation, Isa, Pool, RopePairing, WeightType};
pub use tensor::{LoadError, Tensor, TensorSize, TensorSource};
