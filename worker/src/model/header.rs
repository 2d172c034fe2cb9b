//! Reads the header of a GGUF file: versions 2 and 3, little-endian.
//!
//! A file may have been written by anybody. Each count is held against the bytes that are left before memory is set
//! aside, so that what a header costs is bounded by its file; tensors lie within the file and apart from each other, so
//! that the same holds for whoever copies them. Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::{HashMap, hash_map::Entry};

use candle_core::quantized::gguf_file::{Content, DEFAULT_ALIGNMENT, TensorInfo, Value};
use rbee_schema::Failure;

use super::{extent, fields::Fields, invalid, kind, metadata::Metadata, shown};

/// Keys or tensors. The largest models have some thousand tensors.
const MOST_ENTRIES: usize = 1 << 16;
/// Elements of all lists together. Each takes up to 32 bytes of memory, however few it has in the file. The largest
/// vocabularies have 260,000 tokens with as many scores and types, and half a million merges.
const MOST_ELEMENTS: usize = 1 << 22;
/// Dimensions of a tensor: the format has no more.
const MOST_DIMENSIONS: u32 = 4;
/// Length of a key, its type, a value of one byte.
const SMALLEST_KEY: usize = 8 + 4 + 1;
/// Length of a name, number of dimensions, one dimension, type, offset.
const SMALLEST_TENSOR: usize = 8 + 4 + 8 + 4 + 8;

/// Reads the header of a file, given all of its bytes.
///
/// # Errors
/// - `model-invalid`: it is no GGUF file, damaged, or shorter than its header says;
/// - `model-unsupported`: its version, byte order or a type of its tensors is not known here.
pub fn read(file: &[u8]) -> Result<Content, Failure> {
    let mut fields = Fields::new(file);
    let magic = kind::version(&mut fields)?;
    let tensors = fields.count("tensors", SMALLEST_TENSOR, MOST_ENTRIES)?;
    let keys = fields.count("keys", SMALLEST_KEY, MOST_ENTRIES)?;
    let metadata = read_metadata(&mut fields, keys)?;
    let tensor_infos = read_tensors(&mut fields, tensors)?;
    let alignment = alignment(Metadata(&metadata))?;
    let tensor_data_offset = (fields.position() as u64).next_multiple_of(alignment);
    let content = Content { magic, metadata, tensor_infos, tensor_data_offset };
    extent::check(&content, alignment, file.len() as u64)?;
    Ok(content)
}

fn read_metadata(fields: &mut Fields<'_>, count: usize) -> Result<HashMap<String, Value>, Failure> {
    let (mut metadata, mut elements) = (HashMap::new(), MOST_ELEMENTS);
    for _ in 0..count {
        let (key, kind) = (fields.text()?, fields.u32()?);
        let value = if kind == LIST { list(fields, &key, &mut elements)? } else { value(fields, kind, &key)? };
        insert_once(&mut metadata, key, value, "key")?;
    }
    Ok(metadata)
}

/// The number of the type that is a list.
const LIST: u32 = 9;

/// A list; `elements` is how many more there may be in all lists.
fn list(fields: &mut Fields<'_>, key: &str, elements: &mut usize) -> Result<Value, Failure> {
    let kind = fields.u32()?;
    let smallest = match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        LIST => return Err(invalid(format!("{key} in its header is a list of lists, which nothing has a use for"))),
        _ => return Err(unknown(key, kind)),
    };
    let count = fields.count("elements of a list", smallest, *elements)?;
    *elements -= count;
    (0..count).map(|_| value(fields, kind, key)).collect::<Result<_, _>>().map(Value::Array)
}

fn value(fields: &mut Fields<'_>, kind: u32, key: &str) -> Result<Value, Failure> {
    Ok(match kind {
        0 => Value::U8(u8::from_le_bytes(fields.array()?)),
        1 => Value::I8(i8::from_le_bytes(fields.array()?)),
        2 => Value::U16(u16::from_le_bytes(fields.array()?)),
        3 => Value::I16(i16::from_le_bytes(fields.array()?)),
        4 => Value::U32(u32::from_le_bytes(fields.array()?)),
        5 => Value::I32(i32::from_le_bytes(fields.array()?)),
        6 => Value::F32(f32::from_le_bytes(fields.array()?)),
        7 => match fields.array()? {
            [0] => Value::Bool(false),
            [1] => Value::Bool(true),
            [other] => return Err(invalid(format!("{key} in its header is {other}: expected true (1) or false (0)"))),
        },
        8 => Value::String(fields.text()?),
        10 => Value::U64(u64::from_le_bytes(fields.array()?)),
        11 => Value::I64(i64::from_le_bytes(fields.array()?)),
        12 => Value::F64(f64::from_le_bytes(fields.array()?)),
        _ => return Err(unknown(key, kind)),
    })
}

fn unknown(key: &str, kind: u32) -> Failure {
    invalid(format!("its header is damaged: {} is of the type {kind}, which the format does not have", shown(key)))
}

fn read_tensors(fields: &mut Fields<'_>, count: usize) -> Result<HashMap<String, TensorInfo>, Failure> {
    let mut tensors = HashMap::new();
    for _ in 0..count {
        let (name, dimensions) = (fields.text()?, fields.u32()?);
        if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
            let name = shown(&name);
            return Err(invalid(format!("its tensor {name} has {dimensions} dimensions: expected 1 to 4")));
        }
        // The file has the fastest dimension first, everybody else has the rows first.
        let mut shape = vec![0; dimensions as usize];
        for size in shape.iter_mut().rev() {
            *size = usize::try_from(fields.u64()?).unwrap_or(usize::MAX);
        }
        let ggml_dtype = kind::of_tensor(fields.u32()?, &name)?;
        let tensor = TensorInfo { ggml_dtype, shape: shape.into(), offset: fields.u64()? };
        insert_once(&mut tensors, name, tensor, "tensor")?;
    }
    Ok(tensors)
}

fn insert_once<T>(map: &mut HashMap<String, T>, name: String, value: T, what: &str) -> Result<(), Failure> {
    match map.entry(name) {
        Entry::Vacant(entry) => {
            entry.insert(value);
            Ok(())
        }
        Entry::Occupied(entry) => Err(invalid(format!("its header has the {what} {} twice", shown(entry.key())))),
    }
}

fn alignment(metadata: Metadata<'_>) -> Result<u64, Failure> {
    match metadata.optional_count("general.alignment")? {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(alignment) if alignment.is_power_of_two() => Ok(u64::from(alignment)),
        Some(other) => Err(invalid(format!("general.alignment in its header is {other}: expected a power of two"))),
    }
}
