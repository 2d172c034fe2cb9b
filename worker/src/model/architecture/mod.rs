//! The architectures of decoder models: what the header of a GGUF file says about one becomes a [`DecoderDescription`].
//!
//! To add an architecture: write a file beside `llama` that says how it differs from [`Header::plain`], and name it in
//! [`ARCHITECTURES`]. Where it needs a step that no other has, give [`DecoderDescription`] a field for it and `rbee_transformer` the
//! step. The names of keys and tensors are those of <https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py>.

mod gemma2;
mod gemma3;
mod header;
mod llama;
mod phi3;
mod qwen2;
mod qwen3;
mod smollm3;

use rbee_schema::Failure;
use rbee_transformer::{DecoderDescription, TensorSource};

use self::header::Header;
use super::{invalid, metadata::Metadata, unsupported};

type Describe = fn(&Header<'_>) -> Result<DecoderDescription, Failure>;

/// The architectures that the engine runs, as in `general.architecture`. Mistral's models are `llama` there.
const ARCHITECTURES: [(&str, Describe); 7] = [
    ("llama", llama::describe),
    ("qwen2", qwen2::describe),
    ("qwen3", qwen3::describe),
    ("gemma2", gemma2::describe),
    ("gemma3", gemma3::describe),
    ("phi3", phi3::describe),
    ("smollm3", smollm3::describe),
];

/// Describes the model of a file whose tokenizer has `tokens` tokens, for sequences of at most `context`
/// tokens.
///
/// # Errors
/// `model-unsupported`, naming what was found and what is supported; `model-invalid` where the header contradicts itself.
pub fn describe(
    metadata: Metadata<'_>,
    tensors: &dyn TensorSource,
    tokens: usize,
    context: u32,
) -> Result<DecoderDescription, Failure> {
    let describe = architecture(metadata)?;
    let header = Header::new(metadata, tensors, context)?;
    let description = describe(&header)?;
    if description.vocabulary < tokens {
        let rows = description.vocabulary;
        return Err(invalid(format!("its tokenizer has {tokens} tokens and its embedding {rows} rows")));
    }
    Ok(description)
}

/// Refuses a file of an unknown architecture, or a part of one.
pub fn check(metadata: Metadata<'_>) -> Result<(), Failure> {
    architecture(metadata).map(drop)
}

fn architecture(metadata: Metadata<'_>) -> Result<Describe, Failure> {
    let name = metadata.text("general.architecture")?;
    let Some((_, describe)) = ARCHITECTURES.iter().find(|(known, _)| *known == name) else {
        let known = ARCHITECTURES.map(|(known, _)| known).join(", ");
        return Err(unsupported(format!("its architecture is {name:?}: supported are {known}")));
    };
    match metadata.optional_count("split.count")? {
        None | Some(0 | 1) => Ok(*describe),
        Some(parts) => {
            Err(unsupported(format!("it is one of {parts} parts: merge them with llama-gguf-split --merge")))
        }
    }
}
