//! Opens a GGUF file and checks that it is whole.
//!
//! The file is read, not mapped into memory: the engine copies the weights anyway, and a mapped file that somebody
//! shortens meanwhile would end the process by a signal where a read returns an error.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use candle_core::quantized::gguf_file::{Content, TensorInfo};
use rbee_schema::{Failure, FailureCode};

use super::{invalid, metadata::Metadata};

/// A GGUF file whose header was read and whose tensors lie within the file.
pub struct Gguf {
    /// Metadata and the places of tensors.
    pub content: Content,
    /// The file, positioned anywhere.
    pub reader: BufReader<File>,
    /// Bytes of the file.
    pub length: u64,
}

impl Gguf {
    /// Opens a file.
    ///
    /// # Errors
    /// - `model-missing`: it is not there, cannot be read, or is a folder;
    /// - `model-invalid`: it is no GGUF file, or damaged, or shorter than its header says.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let unreadable = |error: io::Error| Failure::new(FailureCode::ModelMissing, unreadable_message(&error));
        let file = File::open(path).map_err(unreadable)?;
        let about = file.metadata().map_err(unreadable)?;
        if !about.is_file() {
            return Err(Failure::new(FailureCode::ModelMissing, "it is not a file: name the .gguf file itself"));
        }
        let mut reader = BufReader::new(file);
        check_magic(&mut reader)?;
        let content = read_header(&mut reader)?;
        check_extents(&content, about.len())?;
        Ok(Self { content, reader, length: about.len() })
    }

    /// What the header says about the model.
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata(&self.content.metadata)
    }
}

fn unreadable_message(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such file on this machine: copy the model there, or correct the reference".to_owned()
        }
        io::ErrorKind::PermissionDenied => "the worker's user may not read it: change its permissions".to_owned(),
        _ => format!("it cannot be read: {error}"),
    }
}

fn check_magic(reader: &mut (impl Read + Seek)) -> Result<(), Failure> {
    let mut magic = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut magic).and_then(|_| reader.rewind()).map_err(damaged)?;
    match magic.as_slice() {
        b"GGUF" => Ok(()),
        b"" => Err(invalid("it is empty: copy or download it again")),
        other => Err(invalid(format!("it begins with `{}`: a GGUF file begins with `GGUF`", other.escape_ascii()))),
    }
}

fn read_header(reader: &mut (impl Read + Seek)) -> Result<Content, Failure> {
    // A header can make the parser divide by its zero alignment; a panic there is a damaged file, nothing worse.
    let read = catch_unwind(AssertUnwindSafe(|| Content::read(reader)));
    read.map_err(|_| damaged("its values make no sense"))?.map_err(damaged)
}

fn damaged(cause: impl ToString) -> Failure {
    // The errors of candle may carry a backtrace in further lines.
    let cause = cause.to_string();
    let cause = cause.lines().next().unwrap_or_default();
    invalid(format!("its header cannot be read ({cause}): it is damaged or truncated; copy or download it again"))
}

fn check_extents(content: &Content, length: u64) -> Result<(), Failure> {
    let mut end = content.tensor_data_offset;
    for (name, tensor) in &content.tensor_infos {
        let tensor_end = tensor_bytes(tensor)
            .and_then(|bytes| content.tensor_data_offset.checked_add(tensor.offset)?.checked_add(bytes))
            .ok_or_else(|| invalid(format!("its tensor {name} has the impossible shape {:?}", tensor.shape.dims())))?;
        end = end.max(tensor_end);
    }
    if end > length {
        return Err(invalid(format!(
            "it is truncated: its tensors reach to byte {end} and it has {length} bytes; copy or download it again"
        )));
    }
    Ok(())
}

/// How many bytes a tensor takes; `None` where its shape does not fit its type or any file.
fn tensor_bytes(tensor: &TensorInfo) -> Option<u64> {
    let (block, dimensions) = (tensor.ggml_dtype.block_size() as u64, tensor.shape.dims());
    let elements = dimensions.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64))?;
    // Rows are made of whole blocks.
    let row = dimensions.last().copied().unwrap_or(1) as u64;
    let whole = elements > 0 && row.is_multiple_of(block);
    whole.then(|| (elements / block).checked_mul(tensor.ggml_dtype.type_size() as u64)).flatten()
}
