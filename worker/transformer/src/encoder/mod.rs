//! The forward pass of encoder models of BERT's family, for many texts at a time.
//!
//! A [`Description`] says what a model computes, [`Weights`] are packed by it from a file's tensors, and
//! [`Encoder::encode`] turns texts into vectors: one for each, pooled and normed as the description says.
//!
//! The vector of a text depends on its tokens alone: not on what is computed beside it, nor on threads or processor (see
//! [`rbee_kernels`]).

mod description;
mod forward;
mod weights;

pub use crate::{LoadError, Tensor, Tensors};
pub use description::{Description, Pooling};
pub use forward::Encoder;
pub use rbee_kernels::{Bend, Isa, Kind, Pool};
pub use weights::Weights;
