//! Format versions and weight types, by their numbers in a GGUF file.
//!
//! Numbers: `enum ggml_type` in <https://github.com/ggml-org/ggml/blob/master/include/ggml.h>.

use rbee_kernels::WeightType;
use rbee_schema::Failure;

use super::field_reader::FieldReader;
use crate::model_file::error::{invalid, printable, unsupported};

/// Tensor types that GGUF defines and that no engine here computes with.
const UNSUPPORTED_TYPES: [(u32, &str); 21] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

/// Reads the magic number and the version: the first eight bytes of a file.
pub(super) fn read_version(fields: &mut FieldReader<'_>) -> Result<(), Failure> {
    let magic = fields.take(fields.remaining().min(4) as u64, "a magic number")?;
    match magic {
        b"GGUF" => {}
        b"" => return Err(invalid("the file is empty: copy or download it again")),
        other => {
            let found = other.escape_ascii();
            return Err(invalid(format!("the file begins with `{found}`: a GGUF file begins with `GGUF`")));
        }
    }
    match fields.u32()? {
        2 | 3 => Ok(()),
        other if matches!(other.swap_bytes(), 1..=3) => {
            Err(unsupported("the file is written for big-endian machines: use the common, little-endian file"))
        }
        other => Err(unsupported(format!(
            "the file has version {other} of the GGUF format: supported are versions 2 and 3; convert the model again"
        ))),
    }
}

/// Weight type of a number in the file. `name` names the tensor in the failure.
pub(super) fn weight_type(number: u32, name: &str) -> Result<WeightType, Failure> {
    Ok(match number {
        0 => WeightType::F32,
        1 => WeightType::F16,
        2 => WeightType::Q4_0,
        3 => WeightType::Q4_1,
        6 => WeightType::Q5_0,
        7 => WeightType::Q5_1,
        8 => WeightType::Q8_0,
        10 => WeightType::Q2K,
        11 => WeightType::Q3K,
        12 => WeightType::Q4K,
        13 => WeightType::Q5K,
        14 => WeightType::Q6K,
        30 => WeightType::BF16,
        other => return Err(unsupported_type(other, name)),
    })
}

fn unsupported_type(number: u32, name: &str) -> Failure {
    let name = printable(name);
    match UNSUPPORTED_TYPES.into_iter().find(|(known, _)| *known == number) {
        Some((_, kind)) => {
            unsupported(format!("the tensor {name} has the type {kind}: choose a file with Q4_K, Q5_K, Q6_K or Q8_0"))
        }
        None => invalid(format!("the tensor {name} has the type {number}, which the GGUF format does not define")),
    }
}
