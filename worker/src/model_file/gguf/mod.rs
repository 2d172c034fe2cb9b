//! GGUF files: header, metadata, and the bytes of each tensor.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod field_reader;
mod file;
mod header;
mod layout;
mod metadata;
mod parse;
mod types;

pub use self::{
    file::{Gguf, GgufTensor, find_tensor},
    header::{Header, TensorInfo},
    metadata::{Metadata, Value},
    parse::read_header,
};
