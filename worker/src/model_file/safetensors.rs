//! Weights in the safetensors format: one file, or several with an index.
//!
//! A file may have been written by anybody. The `safetensors` crate checks every tensor against the file: names are unique, sizes
//! do not overflow, tensors follow each other without gaps, and together they fill the file. Format:
//! <https://github.com/huggingface/safetensors#format>.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::Path,
};

use rbee_schema::{Failure, FailureCode};
use rbee_transformer::{Tensor, TensorSize, TensorSource, WeightType};
use safetensors::{
    SafeTensors,
    tensor::{Dtype, SafeTensorError},
};
use serde_json::Value;

use super::{
    error::{invalid, printable, unsupported},
    json_file::read_json,
    mapped_file::MappedFile,
};

/// Name of the file when all weights are in one.
const SINGLE_FILE: &str = "model.safetensors";
/// Name of the index, which maps each tensor to its file when there are several files.
const INDEX: &str = "model.safetensors.index.json";
/// Largest header that is read, in bytes. Headers of the largest models have some hundred thousand bytes.
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Most files of one model.
const MAX_FILES: usize = 1024;

/// The weights of a folder.
pub struct Safetensors {
    files: Vec<MappedFile>,
    tensors: BTreeMap<String, TensorLocation>,
    /// Names of tensors that have not been requested yet.
    unused: RefCell<BTreeSet<String>>,
}

/// Position, type and shape of a tensor.
struct TensorLocation {
    /// Index into `Safetensors::files`.
    file: usize,
    bytes: Range<usize>,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl Safetensors {
    /// Opens the weights of a folder.
    ///
    /// # Errors
    /// - `model-missing`: there are no weights, or a file that the index names does not exist;
    /// - `model-invalid`: a file is damaged, or contradicts its header.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let mut opened = Self { files: Vec::new(), tensors: BTreeMap::new(), unused: RefCell::default() };
        for name in weight_files(folder)? {
            let named = |failure: Failure| Failure { message: format!("{name}: {}", failure.message), ..failure };
            opened.add_file(&folder.join(&name)).map_err(named)?;
        }
        opened.unused = RefCell::new(opened.tensors.keys().cloned().collect());
        Ok(opened)
    }

    fn add_file(&mut self, path: &Path) -> Result<(), Failure> {
        let file = MappedFile::open(path)?;
        check_header(file.bytes())?;
        let (header, metadata) = SafeTensors::read_metadata(file.bytes()).map_err(|error| damaged(&error))?;
        let data = size_of::<u64>() + header;
        for (name, info) in metadata.tensors() {
            let bytes = data + info.data_offsets.0..data + info.data_offsets.1;
            let location =
                TensorLocation { file: self.files.len(), bytes, dtype: info.dtype, shape: info.shape.clone() };
            if let Some(other) = self.tensors.insert(name, location) {
                let shape = other.shape;
                return Err(invalid(format!("a tensor of the shape {shape:?} is also in another file")));
            }
        }
        self.files.push(file);
        Ok(())
    }

    /// Size of all files together, in bytes.
    pub fn length(&self) -> u64 {
        self.files.iter().map(|file| file.bytes().len() as u64).sum()
    }

    /// Size of each dimension of a tensor; `None` if there is no tensor of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|location| location.shape.as_slice())
    }

    /// Sizes of all tensors that the engines can compute with.
    pub fn sizes(&self) -> impl Iterator<Item = TensorSize<'_>> {
        let locations = self.tensors.values();
        locations.filter_map(|location| {
            Some(TensorSize { weight_type: weight_type(location.dtype)?, shape: &location.shape })
        })
    }

    /// Name of a tensor that has not been requested and does not end with one of the `ignored` suffixes.
    pub fn unused(&self, ignored: &[&str]) -> Option<String> {
        let unused = self.unused.borrow();
        unused.iter().find(|name| !ignored.iter().any(|suffix| name.ends_with(suffix))).cloned()
    }

    /// Checks that the engines can compute with the type of every tensor for which `is_needed` returns true.
    ///
    /// # Errors
    /// `model-unsupported`, naming the tensor and its type.
    pub fn check_types(&self, is_needed: impl Fn(&str) -> bool) -> Result<(), Failure> {
        match self.tensors.iter().find(|(name, location)| weight_type(location.dtype).is_none() && is_needed(name)) {
            None => Ok(()),
            Some((name, TensorLocation { dtype, .. })) => Err(unsupported(format!(
                "the tensor {} is stored as {dtype:?}: supported are F32, F16, BF16",
                printable(name)
            ))),
        }
    }
}

impl TensorSource for Safetensors {
    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let location = self.tensors.get(name)?;
        let weight_type = weight_type(location.dtype)?;
        self.unused.borrow_mut().remove(name);
        let bytes = self.files[location.file].bytes().get(location.bytes.clone())?;
        Some(Tensor { weight_type, shape: &location.shape, bytes })
    }

    fn release(&self, bytes: &[u8]) {
        // Files that do not contain the bytes ignore them.
        self.files.iter().for_each(|file| file.release_pages(bytes));
    }
}

/// Number type of the engines. Floats are not converted: a matrix takes as much memory as it takes in its file.
fn weight_type(dtype: Dtype) -> Option<WeightType> {
    match dtype {
        Dtype::F32 => Some(WeightType::F32),
        Dtype::F16 => Some(WeightType::F16),
        Dtype::BF16 => Some(WeightType::BF16),
        _ => None,
    }
}

/// Names of a folder's weight files.
fn weight_files(folder: &Path) -> Result<Vec<String>, Failure> {
    if folder.join(SINGLE_FILE).exists() {
        return Ok(vec![SINGLE_FILE.to_owned()]);
    }
    let index = read_json(folder, INDEX)?;
    let Value::Object(map) = &index["weight_map"] else {
        let message = match index {
            Value::Null => format!("the folder has neither {SINGLE_FILE} nor {INDEX}: copy the weights there"),
            _ => return Err(invalid(format!("{INDEX} has no weight_map"))),
        };
        return Err(Failure::new(FailureCode::ModelMissing, message));
    };
    let names: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
    // A name with a separator could lead out of the folder.
    let is_name = |name: &&str| !name.contains(['/', '\\']) && name.ends_with(".safetensors");
    if names.is_empty() || names.len() > MAX_FILES || !names.iter().all(is_name) {
        let expected = format!("1 to {MAX_FILES} files in the same folder that end with .safetensors");
        return Err(invalid(format!("{INDEX} names {} files: expected {expected}", names.len())));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// Checks the announced length of a header before the header is read.
fn check_header(file: &[u8]) -> Result<(), Failure> {
    let Some(length) = file.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else {
        return Err(invalid(format!(
            "the file has {} bytes, too few for a header: copy or download it again",
            file.len()
        )));
    };
    if length > MAX_HEADER_BYTES || length > (file.len() - size_of::<u64>()) as u64 {
        return Err(invalid(format!(
            "the file announces a header of {length} bytes: expected at most {MAX_HEADER_BYTES}, and no more than the {} bytes \
             of the file; copy or download it again",
            file.len()
        )));
    }
    Ok(())
}

fn damaged(error: &SafeTensorError) -> Failure {
    match error {
        SafeTensorError::MetadataIncompleteBuffer => {
            invalid("the file is truncated, or longer than its header says: copy or download it again")
        }
        SafeTensorError::InvalidOffset(name) => {
            invalid(format!("the tensor {} does not begin where the previous one ends", printable(name)))
        }
        SafeTensorError::TensorInvalidInfo | SafeTensorError::ValidationOverflow => {
            invalid("a tensor in the header has a shape that does not fit its bytes")
        }
        SafeTensorError::InvalidHeaderDeserialization(cause) => {
            invalid(format!("the header is not a JSON list of tensors: {cause}"))
        }
        other => invalid(format!("the header cannot be read: {}", printable(&other.to_string()))),
    }
}
