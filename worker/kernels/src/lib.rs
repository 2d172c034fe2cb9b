//! What a processor computes for a language model: products with quantised matrices, attention, norms, activations.
//!
//! Every kernel gives the same bits on every processor: integers are exact, floats are added in one fixed order with
//! explicit fused multiply-adds, and no sum depends on how many rows or threads take part. So an answer that one
//! machine has begun goes on identically on another one, at any batch size.
//!
//! [`Isa`] says which instructions a kernel may use; it is found out when the program runs, so that one executable
//! serves all processors. `Isa::Portable` is plain Rust, for every processor, and what the others are tested against.

mod attention;
mod buffer;
mod compiled;
mod encoder;
mod form;
mod huge;
mod inputs;
mod isa;
mod kind;
mod lanes;
mod matrix;
mod multiply;
mod number;
mod numbers;
mod pack;
mod pool;
mod rows;
#[cfg(test)]
mod samples;
mod stretch;
mod unpack;

pub use attention::{Heads, LARGEST_HEAD, Look, PAGE, Sight, attend, store};
pub use encoder::{Bend, attend_all, bend, layer_norm};
pub use huge::want_huge_pages;
pub use inputs::Inputs;
pub use isa::Isa;
pub use kind::Kind;
pub use matrix::{Matrix, PART, PackError};
pub use multiply::multiply;
pub use numbers::Numbers;
pub use pool::Pool;
pub use rows::{Activation, Pairs, add, add_to_rows, gate, rms_norm, rms_norm_in_place, rotate, soft_cap};
