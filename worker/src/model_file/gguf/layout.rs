//! Checks where tensors lie in a GGUF file: inside the file, aligned, and without overlap.

use rbee_schema::Failure;

use super::header::{Header, TensorInfo};
use crate::model_file::error::{invalid, printable};

/// Checks every tensor against a file of `length` bytes.
///
/// Overlapping tensors are refused: with thousands of names for the same gigabyte, copying the tensors would take thousands of
/// gigabytes.
pub(super) fn check_layout(header: &Header, alignment: u64, length: u64) -> Result<(), Failure> {
    let mut ranges = Vec::with_capacity(header.tensors.len());
    for (name, tensor) in &header.tensors {
        if !tensor.offset.is_multiple_of(alignment) {
            let (name, offset) = (printable(name), tensor.offset);
            return Err(invalid(format!("the tensor {name} begins at {offset}: expected a multiple of {alignment}")));
        }
        let (start, end) = byte_range(header, tensor).ok_or_else(|| {
            let (name, shape, kind) = (printable(name), &tensor.shape, tensor.weight_type);
            invalid(format!("the tensor {name} has the impossible shape {shape:?} of {kind:?}"))
        })?;
        ranges.push((start, end, name));
    }
    ranges.sort_unstable();
    let end = ranges.iter().map(|(_, end, _)| *end).max().unwrap_or(0);
    if end > length {
        return Err(invalid(format!(
            "the file is truncated: its tensors reach to byte {end} and it has {length} bytes; copy or download it again"
        )));
    }
    match ranges.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        None => Ok(()),
        Some(pair) => {
            Err(invalid(format!("the tensors {} and {} overlap", printable(pair[0].2), printable(pair[1].2))))
        }
    }
}

/// First byte of a tensor in its file, and the byte after its last; `None` if the shape does not fit the type, or fits no file.
pub(super) fn byte_range(header: &Header, tensor: &TensorInfo) -> Option<(u64, u64)> {
    let start = header.tensor_data_offset.checked_add(tensor.offset)?;
    Some((start, start.checked_add(byte_count(tensor)?)?))
}

fn byte_count(tensor: &TensorInfo) -> Option<u64> {
    let (block, dimensions) = (tensor.weight_type.block_size() as u64, &tensor.shape);
    let elements = dimensions.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64))?;
    // Rows consist of whole blocks.
    let row = dimensions.last().copied().unwrap_or(1) as u64;
    let is_whole = elements > 0 && row.is_multiple_of(block);
    is_whole.then(|| (elements / block).checked_mul(tensor.weight_type.block_bytes() as u64)).flatten()
}
