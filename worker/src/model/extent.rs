//! Where tensors lie in a file: within it, where the format allows, and apart from each other.

use candle_core::quantized::gguf_file::{Content, TensorInfo};
use rbee_schema::Failure;

use super::{invalid, shown};

/// Holds every tensor against a file of this many bytes. Two that overlap are refused: thousands of names for the same
/// gigabyte would make whoever copies them need thousands of gigabytes.
pub(super) fn check(content: &Content, alignment: u64, length: u64) -> Result<(), Failure> {
    let mut places = Vec::with_capacity(content.tensor_infos.len());
    for (name, tensor) in &content.tensor_infos {
        if !tensor.offset.is_multiple_of(alignment) {
            let (name, offset) = (shown(name), tensor.offset);
            return Err(invalid(format!("its tensor {name} begins at {offset}: expected a multiple of {alignment}")));
        }
        let place = place(content, tensor);
        let (start, end) = place.ok_or_else(|| {
            let (name, shape, kind) = (shown(name), tensor.shape.dims(), tensor.ggml_dtype);
            invalid(format!("its tensor {name} has the impossible shape {shape:?} of {kind:?}"))
        })?;
        places.push((start, end, name));
    }
    places.sort_unstable();
    let end = places.iter().map(|(_, end, _)| *end).max().unwrap_or(0);
    if end > length {
        return Err(invalid(format!(
            "it is truncated: its tensors reach to byte {end} and it has {length} bytes; copy or download it again"
        )));
    }
    match places.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        None => Ok(()),
        Some(pair) => Err(invalid(format!("its tensors {} and {} overlap", shown(pair[0].2), shown(pair[1].2)))),
    }
}

/// The first byte of a tensor in its file, and the one after its last; `None` where its shape does not fit its type or
/// any file.
pub(super) fn place(content: &Content, tensor: &TensorInfo) -> Option<(u64, u64)> {
    let start = content.tensor_data_offset.checked_add(tensor.offset)?;
    Some((start, start.checked_add(bytes(tensor)?)?))
}

fn bytes(tensor: &TensorInfo) -> Option<u64> {
    let (block, dimensions) = (tensor.ggml_dtype.block_size() as u64, tensor.shape.dims());
    let elements = dimensions.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64))?;
    // Rows are made of whole blocks.
    let row = dimensions.last().copied().unwrap_or(1) as u64;
    let whole = elements > 0 && row.is_multiple_of(block);
    whole.then(|| (elements / block).checked_mul(tensor.ggml_dtype.type_size() as u64)).flatten()
}
