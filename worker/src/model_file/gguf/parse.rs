//! Parses the header of a GGUF file: versions 2 and 3, little-endian.
//!
//! A file may have been written by anybody. Each count is compared with the bytes that remain before memory is allocated
//! for it, so that the memory a header takes is bounded by the size of its file. Tensors must lie within the file and must not
//! overlap, so that copying them all is bounded as well. Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::{HashMap, hash_map::Entry};

use rbee_schema::Failure;

use super::{
    field_reader::FieldReader,
    header::{Header, TensorInfo},
    layout::check_layout,
    metadata::{Metadata, Value},
    types::{read_version, weight_type},
};
use crate::model_file::error::{invalid, printable};

/// Most keys, and most tensors. The largest models have some thousand tensors.
const MAX_ENTRIES: usize = 1 << 16;
/// Most elements of all lists together. Each takes up to 32 bytes of memory, however few bytes it has in the file. The largest
/// vocabularies have 260,000 tokens with as many scores and types, and half a million merges.
const MAX_ELEMENTS: usize = 1 << 22;
/// Most dimensions of a tensor, as defined by the format.
const MAX_DIMENSIONS: u32 = 4;
/// Smallest metadata entry in bytes: key length, value type, and a value of one byte.
const MIN_KEY_BYTES: usize = 8 + 4 + 1;
/// Smallest tensor entry in bytes: name length, number of dimensions, one dimension, type, offset.
const MIN_TENSOR_BYTES: usize = 8 + 4 + 8 + 4 + 8;
/// Type number of a list.
const LIST: u32 = 9;
/// Alignment of tensors in bytes if the file does not state one, as defined by the format.
const DEFAULT_ALIGNMENT: u64 = 32;

/// Parses the header, given all bytes of the file.
///
/// # Errors
/// - `model-invalid`: the file is not GGUF, is damaged, or is shorter than its header says;
/// - `model-unsupported`: the version, the byte order or a tensor type is not supported.
pub fn read_header(file: &[u8]) -> Result<Header, Failure> {
    let mut fields = FieldReader::new(file);
    read_version(&mut fields)?;
    let tensor_count = fields.count("tensors", MIN_TENSOR_BYTES, MAX_ENTRIES)?;
    let key_count = fields.count("keys", MIN_KEY_BYTES, MAX_ENTRIES)?;
    let metadata = read_metadata(&mut fields, key_count)?;
    let tensors = read_tensors(&mut fields, tensor_count)?;
    let alignment = alignment(Metadata(&metadata))?;
    let tensor_data_offset = (fields.position() as u64).next_multiple_of(alignment);
    let header = Header { metadata, tensors, tensor_data_offset };
    check_layout(&header, alignment, file.len() as u64)?;
    Ok(header)
}

fn read_metadata(fields: &mut FieldReader<'_>, count: usize) -> Result<HashMap<String, Value>, Failure> {
    let (mut metadata, mut remaining_elements) = (HashMap::new(), MAX_ELEMENTS);
    for _ in 0..count {
        let (key, kind) = (fields.text()?, fields.u32()?);
        let value = match kind {
            LIST => read_list(fields, &key, &mut remaining_elements)?,
            kind => read_value(fields, kind, &key)?,
        };
        insert_once(&mut metadata, key, value, "key")?;
    }
    Ok(metadata)
}

/// Reads a list. `remaining_elements` is the number of elements that all further lists together may have.
fn read_list(fields: &mut FieldReader<'_>, key: &str, remaining_elements: &mut usize) -> Result<Value, Failure> {
    let kind = fields.u32()?;
    let smallest = match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        LIST => return Err(invalid(format!("{key} in the header is a list of lists, which no known key is"))),
        _ => return Err(unknown_type(key, kind)),
    };
    let count = fields.count("elements of a list", smallest, *remaining_elements)?;
    *remaining_elements -= count;
    (0..count).map(|_| read_value(fields, kind, key)).collect::<Result<_, _>>().map(Value::Array)
}

fn read_value(fields: &mut FieldReader<'_>, kind: u32, key: &str) -> Result<Value, Failure> {
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
            [other] => return Err(invalid(format!("{key} in the header is {other}: expected true (1) or false (0)"))),
        },
        8 => Value::String(fields.text()?),
        10 => Value::U64(u64::from_le_bytes(fields.array()?)),
        11 => Value::I64(i64::from_le_bytes(fields.array()?)),
        12 => Value::F64(f64::from_le_bytes(fields.array()?)),
        _ => return Err(unknown_type(key, kind)),
    })
}

fn unknown_type(key: &str, kind: u32) -> Failure {
    let key = printable(key);
    invalid(format!("the header is damaged: {key} has the type {kind}, which the GGUF format does not define"))
}

fn read_tensors(fields: &mut FieldReader<'_>, count: usize) -> Result<HashMap<String, TensorInfo>, Failure> {
    let mut tensors = HashMap::new();
    for _ in 0..count {
        let (name, dimensions) = (fields.text()?, fields.u32()?);
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            let name = printable(&name);
            return Err(invalid(format!("the tensor {name} has {dimensions} dimensions: expected 1 to 4")));
        }
        // The file has the fastest dimension first; shapes here have the rows first.
        let mut shape = vec![0; dimensions as usize];
        for size in shape.iter_mut().rev() {
            *size = usize::try_from(fields.u64()?).unwrap_or(usize::MAX);
        }
        let weight_type = weight_type(fields.u32()?, &name)?;
        let tensor = TensorInfo { weight_type, shape, offset: fields.u64()? };
        insert_once(&mut tensors, name, tensor, "tensor")?;
    }
    Ok(tensors)
}

fn insert_once<T>(map: &mut HashMap<String, T>, name: String, value: T, kind: &str) -> Result<(), Failure> {
    match map.entry(name) {
        Entry::Vacant(entry) => {
            entry.insert(value);
            Ok(())
        }
        Entry::Occupied(entry) => Err(invalid(format!("the header has the {kind} {} twice", printable(entry.key())))),
    }
}

fn alignment(metadata: Metadata<'_>) -> Result<u64, Failure> {
    match metadata.optional_count("general.alignment")? {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(alignment) if alignment.is_power_of_two() => Ok(u64::from(alignment)),
        Some(other) => Err(invalid(format!("general.alignment in the header is {other}: expected a power of two"))),
    }
}
