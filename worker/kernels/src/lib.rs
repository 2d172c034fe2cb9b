//! Compute kernels for language models on CPUs: products with quantized matrices, attention, norms, activations.
//!
//! Every kernel computes the same bits on every processor. Integer sums are exact, floats are added in one fixed order with
//! explicit fused multiply-adds, and no sum depends on the number of rows or threads. So an answer that one machine has
//! begun continues identically on another one, at any batch size.
//!
//! [`Isa`] selects the instructions that a kernel may use. It is detected at run time, so that one executable serves all
//! processors. [`Isa::Portable`] is plain Rust for every processor, and the reference that the others are tested against.
//!
//! The shape of data: activations are row-major `f32`, one row per token. Weights are a [`Matrix`] with one row per output,
//! packed once as `layout.rs` describes. Keys and values are `f16` in pages as `paged_attention.rs` describes.

mod activation;
mod block;
mod buffer;
mod f16_buffer;
mod full_attention;
mod huge_pages;
mod input_rows;
mod isa;
mod lanes;
mod layout;
mod math;
mod matrix;
mod multiply;
mod multiversion;
mod norm;
mod pack;
mod paged_attention;
mod pool;
mod rope;
mod rows;
#[cfg(test)]
mod samples;
mod unpack;
mod weight_type;

pub use activation::{Activation, GateActivation, activate, gate, soft_cap};
pub use f16_buffer::F16Buffer;
pub use full_attention::attend_full;
pub use huge_pages::set_huge_pages;
pub use input_rows::InputRows;
pub use isa::Isa;
pub use matrix::{Matrix, PACK_CHUNK_BYTES, PackError};
pub use multiply::multiply;
pub use norm::{layer_norm, rms_norm, rms_norm_in_place};
pub use paged_attention::{AttentionParams, Heads, KvView, MAX_HEAD_SIZE, PAGE_TOKENS, attend_paged, store_kv};
pub use pool::Pool;
pub use rope::{RopePairing, apply_rope};
pub use rows::{add, add_to_rows};
pub use weight_type::WeightType;
