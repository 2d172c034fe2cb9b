//! The supported decoder architectures by their names in GGUF files.
//!
//! Names of keys and tensors are those of <https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py>.

use rbee_schema::Failure;
use rbee_transformer::{DecoderDescription, TensorSource};

use super::{gemma2, gemma3, hyperparameters::Hyperparameters, llama, phi3, qwen2, qwen3, smollm3};
use crate::model_file::{
    error::{invalid, unsupported},
    gguf::Metadata,
};

type Describe = fn(&Hyperparameters<'_>) -> Result<DecoderDescription, Failure>;

/// The supported architectures, as named in `general.architecture`. Mistral's models are named `llama` there.
const ARCHITECTURES: [(&str, Describe); 7] = [
    ("llama", llama::describe),
    ("qwen2", qwen2::describe),
    ("qwen3", qwen3::describe),
    ("gemma2", gemma2::describe),
    ("gemma3", gemma3::describe),
    ("phi3", phi3::describe),
    ("smollm3", smollm3::describe),
];

/// Describes the decoder of a file whose tokenizer has `tokens` tokens, for sequences of at most `context` tokens.
///
/// # Errors
/// `model-unsupported`, with what was found and what is supported; `model-invalid` if the header contradicts itself.
pub fn describe(
    metadata: Metadata<'_>,
    tensors: &dyn TensorSource,
    tokens: usize,
    context: u32,
) -> Result<DecoderDescription, Failure> {
    let describe = find(metadata)?;
    let description = describe(&Hyperparameters::new(metadata, tensors, context)?)?;
    if description.vocabulary < tokens {
        let rows = description.vocabulary;
        return Err(invalid(format!("the tokenizer has {tokens} tokens and the embedding {rows} rows")));
    }
    Ok(description)
}

/// Checks that the file has a supported architecture and is not one part of a split file.
///
/// # Errors
/// `model-unsupported`, with what was found and what is supported.
pub fn check_supported(metadata: Metadata<'_>) -> Result<(), Failure> {
    find(metadata).map(drop)
}

fn find(metadata: Metadata<'_>) -> Result<Describe, Failure> {
    let name = metadata.text("general.architecture")?;
    let Some((_, describe)) = ARCHITECTURES.iter().find(|(known, _)| *known == name) else {
        let known = ARCHITECTURES.map(|(known, _)| known).join(", ");
        return Err(unsupported(format!("the architecture is {name:?}: supported are {known}")));
    };
    match metadata.optional_count("split.count")? {
        None | Some(0 | 1) => Ok(*describe),
        Some(parts) => {
            Err(unsupported(format!("the file is one of {parts} parts: merge them with llama-gguf-split --merge")))
        }
    }
}
