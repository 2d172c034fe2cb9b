//! Weights in the safetensors format: one file, or several with an index.
//!
//! A file may have been written by anybody. The `safetensors` crate holds each tensor against the file: names once, sizes
//! without overflow, one tensor right behind the other, and together as long as the file. Format:
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

use super::{folder::json, invalid, mapped::Mapped, shown, unsupported};

/// The file of a model that is in one piece.
const WHOLE: &str = "model.safetensors";
/// Says in which file each tensor is, where there are several.
const INDEX: &str = "model.safetensors.index.json";
/// Bytes of a header that are read. Those of the largest models have some hundred thousand.
const MOST_HEADER: u64 = 16 << 20;
/// Files of one model.
const MOST_FILES: usize = 1024;

/// The weights of a folder.
pub struct Safetensors {
    files: Vec<Mapped>,
    tensors: BTreeMap<String, Place>,
    /// Names of tensors that nobody has asked for.
    unused: RefCell<BTreeSet<String>>,
}

/// Where a tensor is.
struct Place {
    file: usize,
    bytes: Range<usize>,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl Safetensors {
    /// Opens the weights of a folder.
    ///
    /// # Errors
    /// - `model-missing`: there are none, or a file that the index names is not there;
    /// - `model-invalid`: a file is damaged, or is not what its header says.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let mut opened = Self { files: Vec::new(), tensors: BTreeMap::new(), unused: RefCell::default() };
        for name in files(folder)? {
            let named = |failure: Failure| Failure { message: format!("{name}: {}", failure.message), ..failure };
            opened.add(&folder.join(&name)).map_err(named)?;
        }
        opened.unused = RefCell::new(opened.tensors.keys().cloned().collect());
        Ok(opened)
    }

    fn add(&mut self, path: &Path) -> Result<(), Failure> {
        let file = Mapped::open(path)?;
        check_header(file.bytes())?;
        let (header, metadata) = SafeTensors::read_metadata(file.bytes()).map_err(|error| damaged(&error))?;
        let data = size_of::<u64>() + header;
        for (name, info) in metadata.tensors() {
            let bytes = data + info.data_offsets.0..data + info.data_offsets.1;
            let place = Place { file: self.files.len(), bytes, dtype: info.dtype, shape: info.shape.clone() };
            if let Some(other) = self.tensors.insert(name, place) {
                let shape = other.shape;
                return Err(invalid(format!("it has a tensor of the shape {shape:?} that another file has too")));
            }
        }
        self.files.push(file);
        Ok(())
    }

    /// Bytes of all files.
    pub fn length(&self) -> u64 {
        self.files.iter().map(|file| file.bytes().len() as u64).sum()
    }

    /// The sizes of a tensor's dimensions, where there is one of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|place| place.shape.as_slice())
    }

    /// The size of each tensor that the engines compute with.
    pub fn sizes(&self) -> impl Iterator<Item = TensorSize<'_>> {
        self.tensors
            .values()
            .filter_map(|place| Some(TensorSize { weight_type: weight_type(place.dtype)?, shape: &place.shape }))
    }

    /// A tensor that nobody has asked for and whose name does not end with one of `ignored`.
    pub fn unused(&self, ignored: &[&str]) -> Option<String> {
        let unused = self.unused.borrow();
        unused.iter().find(|name| !ignored.iter().any(|end| name.ends_with(end))).cloned()
    }

    /// Refuses tensors whose numbers are none that the engines compute with, among those for which `is_needed` holds.
    ///
    /// # Errors
    /// `model-unsupported`, naming the tensor and its type.
    pub fn check_types(&self, is_needed: impl Fn(&str) -> bool) -> Result<(), Failure> {
        match self.tensors.iter().find(|(name, place)| weight_type(place.dtype).is_none() && is_needed(name)) {
            None => Ok(()),
            Some((name, Place { dtype, .. })) => Err(unsupported(format!(
                "its tensor {} is stored as {dtype:?}: supported are F32, F16, BF16",
                shown(name)
            ))),
        }
    }
}

impl TensorSource for Safetensors {
    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let place = self.tensors.get(name)?;
        let weight_type = weight_type(place.dtype)?;
        self.unused.borrow_mut().remove(name);
        Some(Tensor {
            weight_type,
            shape: &place.shape,
            bytes: self.files[place.file].bytes().get(place.bytes.clone())?,
        })
    }

    fn release(&self, bytes: &[u8]) {
        // All but one of them leave it alone.
        self.files.iter().for_each(|file| file.forget(bytes));
    }
}

/// The floats that products know. They are kept as they are: what a matrix takes in memory is what it takes in its file.
fn weight_type(dtype: Dtype) -> Option<WeightType> {
    match dtype {
        Dtype::F32 => Some(WeightType::F32),
        Dtype::F16 => Some(WeightType::F16),
        Dtype::BF16 => Some(WeightType::BF16),
        _ => None,
    }
}

/// The names of a folder's files of weights.
fn files(folder: &Path) -> Result<Vec<String>, Failure> {
    if folder.join(WHOLE).exists() {
        return Ok(vec![WHOLE.to_owned()]);
    }
    let index = json(folder, INDEX)?;
    let Value::Object(map) = &index["weight_map"] else {
        let message = match index {
            Value::Null => format!("it has neither {WHOLE} nor {INDEX}: copy the weights there"),
            _ => return Err(invalid(format!("its {INDEX} has no weight_map"))),
        };
        return Err(Failure::new(FailureCode::ModelMissing, message));
    };
    let names: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
    // A name, not a way out of the folder.
    let is_name = |name: &&str| !name.contains(['/', '\\']) && name.ends_with(".safetensors");
    if names.is_empty() || names.len() > MOST_FILES || !names.iter().all(is_name) {
        let expected = format!("1 to {MOST_FILES} files in the same folder that end with .safetensors");
        return Err(invalid(format!("its {INDEX} names {} files: expected {expected}", names.len())));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// Refuses a header that cannot be before anything is read of it.
fn check_header(file: &[u8]) -> Result<(), Failure> {
    let Some(length) = file.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else {
        return Err(invalid(format!("it has {} bytes, too few for a header: copy or download it again", file.len())));
    };
    if length > MOST_HEADER || length > (file.len() - size_of::<u64>()) as u64 {
        return Err(invalid(format!(
            "it says that its header has {length} bytes, and the file has {}: expected at most that, and at most \
             {MOST_HEADER}; copy or download it again",
            file.len()
        )));
    }
    Ok(())
}

fn damaged(error: &SafeTensorError) -> Failure {
    match error {
        SafeTensorError::MetadataIncompleteBuffer => {
            invalid("it is truncated, or longer than its header says: copy or download it again")
        }
        SafeTensorError::InvalidOffset(name) => {
            invalid(format!("its tensor {} does not begin where the one before it ends", shown(name)))
        }
        SafeTensorError::TensorInvalidInfo | SafeTensorError::ValidationOverflow => {
            invalid("a tensor in its header has a shape that does not fit its bytes")
        }
        SafeTensorError::InvalidHeaderDeserialization(cause) => {
            invalid(format!("its header is no JSON of tensors: {cause}"))
        }
        other => invalid(format!("its header cannot be read: {}", shown(&other.to_string()))),
    }
}
