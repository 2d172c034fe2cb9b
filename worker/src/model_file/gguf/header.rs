//! The header of a GGUF file as data.

use std::collections::HashMap;

use rbee_kernels::WeightType;

use super::metadata::Value;

/// Parsed header of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Key-value pairs.
    pub metadata: HashMap<String, Value>,
    /// Tensors by name.
    pub tensors: HashMap<String, TensorInfo>,
    /// Position of the first tensor in the file, in bytes.
    pub tensor_data_offset: u64,
}

/// Header entry of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Storage format of the numbers.
    pub weight_type: WeightType,
    /// Size of each dimension, rows first.
    pub shape: Vec<usize>,
    /// Position relative to [`Header::tensor_data_offset`], in bytes.
    pub offset: u64,
}
