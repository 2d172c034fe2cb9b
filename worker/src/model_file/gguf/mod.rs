//! GGUF files: header, metadata, and the bytes of each tensor.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod field_reader;
mod file;
mod header;
mod layout;
mod metadata;
mod types;

pub use self::{
    file::{Gguf, GgufTensor, find_tensor},
    header::{Header, TensorInfo, read_header},
    metadata::{Metadata, Value},
};
