//! The versions of the format and the types of tensors, by their numbers in a file.
//!
//! Numbers: `enum ggml_type` in <https://github.com/ggml-org/ggml/blob/master/include/ggml.h>.

use candle_core::quantized::{GgmlDType, gguf_file::VersionedMagic};
use rbee_schema::Failure;

use super::{fields::Fields, invalid, unsupported};

/// Types that files have and that nothing here computes with.
const OTHERS: [(u32, &str); 19] = [
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

/// The first eight bytes of a file.
pub(super) fn version(fields: &mut Fields<'_>) -> Result<VersionedMagic, Failure> {
    let magic = fields.take(fields.left().min(4) as u64, "a beginning")?;
    match magic {
        b"GGUF" => {}
        b"" => return Err(invalid("it is empty: copy or download it again")),
        other => {
            let found = other.escape_ascii();
            return Err(invalid(format!("it begins with `{found}`: a GGUF file begins with `GGUF`")));
        }
    }
    match fields.u32()? {
        2 => Ok(VersionedMagic::GgufV2),
        3 => Ok(VersionedMagic::GgufV3),
        other if matches!(other.swap_bytes(), 1..=3) => Err(unsupported(
            "it is written in the byte order of big-endian machines: take the usual, little-endian one",
        )),
        other => Err(unsupported(format!(
            "it is of version {other} of the GGUF format: versions 2 and 3 are known; convert the model again"
        ))),
    }
}

/// The type of a tensor.
pub(super) fn of_tensor(number: u32, name: &str) -> Result<GgmlDType, Failure> {
    Ok(match number {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        9 => GgmlDType::Q8_1,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        15 => GgmlDType::Q8K,
        30 => GgmlDType::BF16,
        other => {
            let known = OTHERS.into_iter().find(|(number, _)| *number == other);
            return Err(known.map_or_else(
                || invalid(format!("its tensor {} is of the type {other}, which is not known", super::shown(name))),
                |(_, kind)| {
                    unsupported(format!(
                        "its weights are of the type {kind}: choose a file with Q4_K, Q5_K, Q6_K or Q8_0"
                    ))
                },
            ));
        }
    })
}
