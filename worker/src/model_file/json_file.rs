//! Reads the small files beside the weights of a model folder, such as `config.json` and `tokenizer.json`.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use rbee_schema::{Failure, FailureCode};
use serde_json::Value;

use super::error::invalid;

/// Largest file that is read, in bytes. The largest tokenizers have 40 MB.
const MAX_BYTES: u64 = 256 << 20;

/// Reads a file of a folder as JSON; `Null` if the file does not exist.
///
/// # Errors
/// `model-missing` if the file cannot be read; `model-invalid` if it is not JSON or too large.
pub(crate) fn read_json(folder: &Path, name: &str) -> Result<Value, Failure> {
    let Some(bytes) = read_bytes(folder, name)? else { return Ok(Value::Null) };
    serde_json::from_slice(&bytes).map_err(|cause| invalid(format!("its {name} is not JSON: {cause}")))
}

/// Reads a file of a folder; `None` if the file does not exist.
///
/// # Errors
/// `model-missing` if the file cannot be read; `model-invalid` if it is too large.
pub(crate) fn read_bytes(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    let path = folder.join(name);
    let unreadable =
        |cause: io::Error| Failure::new(FailureCode::ModelMissing, format!("its {name} cannot be read: {cause}"));
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
        Ok(found) if found.len() > MAX_BYTES => {
            return Err(invalid(format!("its {name} has {} bytes: expected at most {MAX_BYTES}", found.len())));
        }
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    File::open(&path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes)).map_err(unreadable)?;
    Ok(Some(bytes))
}
