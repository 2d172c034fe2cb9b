//! Reads the description of an encoder from a folder in the format of sentence-transformers.
//!
//! The model is in `config.json`, the pooling of its output in `modules.json` and `1_Pooling/config.json`.
//!
//! Formats: <https://huggingface.co/docs/transformers/model_doc/bert#transformers.BertConfig>,
//! <https://sbert.net/docs/package_reference/sentence_transformer/models.html>.

use std::path::Path;

use rbee_schema::{Failure, FailureCode};
use rbee_transformer::{Activation, EncoderDescription};
use serde_json::Value;

use super::encoder_pooling::read_pooling;
use crate::model_file::{
    error::{invalid, printable, unsupported},
    json_file::read_json,
};

/// Supported encoders, as named in `model_type`.
pub const ENCODER_TYPES: [&str; 4] = ["bert", "roberta", "xlm-roberta", "camembert"];

/// Largest number in `config.json`: many times the numbers of the largest models.
const MAX_NUMBER: u64 = 1 << 24;

/// Smallest context in tokens.
const MIN_CONTEXT: usize = 16;

/// An encoder as its folder describes it.
pub struct EncoderModel {
    /// Computation of the model.
    pub description: EncoderDescription,
    /// Default number of tokens to which a text is truncated.
    pub max_tokens: usize,
    /// Text that is put before every input.
    pub prompt: String,
}

/// Reads `model_type` from a folder's `config.json`.
///
/// # Errors
/// `model-missing` if there is no `config.json`; `model-invalid` if it has no `model_type`.
pub fn model_type(folder: &Path) -> Result<String, Failure> {
    let config = read_json(folder, "config.json")?;
    if config.is_null() {
        let message =
            "the folder has no config.json: name a .gguf file, or a folder with config.json and model.safetensors";
        return Err(Failure::new(FailureCode::ModelMissing, message));
    }
    let named = config["model_type"].as_str().map(str::to_owned);
    named.ok_or_else(|| invalid("config.json has no model_type"))
}

/// Describes the encoder of a folder.
///
/// # Errors
/// `model-unsupported`, with what was found and what is supported; `model-invalid` if a file contradicts itself.
pub fn describe_encoder(folder: &Path) -> Result<EncoderModel, Failure> {
    let name = model_type(folder)?;
    if !ENCODER_TYPES.contains(&name.as_str()) {
        let (name, known) = (printable(&name), ENCODER_TYPES.join(", "));
        return Err(unsupported(format!("the architecture is {name:?}: supported for embeddings are {known}")));
    }
    let config = read_json(folder, "config.json")?;
    let (pooling, is_normalized) = read_pooling(folder)?;
    let count = |key: &str| count(&config, key);
    let description = EncoderDescription {
        vocabulary: count("vocab_size")?,
        positions: count("max_position_embeddings")?,
        // RoBERTa counts positions from the id of the padding token plus one.
        first_position: if name == "bert" { 0 } else { padding(&config)? + 1 },
        token_types: count("type_vocab_size")?,
        width: count("hidden_size")?,
        inner: count("intermediate_size")?,
        heads: count("num_attention_heads")?,
        layers: count("num_hidden_layers")?,
        epsilon: epsilon(&config)?,
        activation: activation(&config)?,
        pooling,
        is_normalized,
    };
    check_supported(&config, &description)?;
    let max_tokens = max_tokens(folder, &description)?;
    Ok(EncoderModel { description, max_tokens, prompt: prompt(folder)? })
}

fn check_supported(config: &Value, description: &EncoderDescription) -> Result<(), Failure> {
    let EncoderDescription { width, heads, first_position, positions, .. } = *description;
    if !width.is_multiple_of(heads) {
        return Err(invalid(format!("{width} dimensions and {heads} heads in config.json do not divide each other")));
    }
    if description.max_tokens() < MIN_CONTEXT {
        let found = format!("positions from {first_position} to {positions}");
        return Err(invalid(format!("config.json has {found}: expected at least {MIN_CONTEXT}")));
    }
    match config["position_embedding_type"].as_str() {
        None | Some("absolute") => {}
        Some(other) => {
            return Err(unsupported(format!(
                "the position embedding is {:?}: supported is absolute",
                printable(other)
            )));
        }
    }
    if config["is_decoder"] == true {
        return Err(unsupported("config.json describes a decoder: only encoders compute embeddings"));
    }
    Ok(())
}

/// Count that must be present and at least 1.
fn count(config: &Value, key: &str) -> Result<usize, Failure> {
    match config[key].as_u64() {
        Some(count @ 1..=MAX_NUMBER) => Ok(count as usize),
        _ => Err(invalid(format!("{key} in config.json is {}: expected 1 to {MAX_NUMBER}", found(&config[key])))),
    }
}

fn padding(config: &Value) -> Result<usize, Failure> {
    match &config["pad_token_id"] {
        Value::Null => Ok(1),
        value => match value.as_u64() {
            Some(id @ 0..=MAX_NUMBER) => Ok(id as usize),
            _ => Err(invalid(format!("pad_token_id in config.json is {}: expected a token", found(value)))),
        },
    }
}

fn epsilon(config: &Value) -> Result<f32, Failure> {
    match &config["layer_norm_eps"] {
        Value::Null => Ok(1e-12),
        value => match value.as_f64().map(|number| number as f32) {
            Some(number) if number > 0.0 && number < 1.0 => Ok(number),
            _ => Err(invalid(format!("layer_norm_eps in config.json is {}: expected 0 to 1", found(value)))),
        },
    }
}

fn activation(config: &Value) -> Result<Activation, Failure> {
    match config["hidden_act"].as_str() {
        None | Some("gelu") => Ok(Activation::Gelu),
        Some("gelu_new" | "gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
        Some("relu") => Ok(Activation::Relu),
        Some(other) => {
            Err(unsupported(format!("the activation is {:?}: supported are gelu, gelu_new, relu", printable(other))))
        }
    }
}

/// Number of tokens to which sentence-transformers truncates a text.
fn max_tokens(folder: &Path, description: &EncoderDescription) -> Result<usize, Failure> {
    let (own, tokenizer) =
        (read_json(folder, "sentence_bert_config.json")?, read_json(folder, "tokenizer_config.json")?);
    // Tokenizers without a limit have 1e30.
    let limit = [&own["max_seq_length"], &tokenizer["model_max_length"]].into_iter().find_map(Value::as_u64);
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    Ok(limit.clamp(MIN_CONTEXT, description.max_tokens()))
}

/// Text that the model expects before every input; empty if the folder names no default prompt.
fn prompt(folder: &Path) -> Result<String, Failure> {
    let config = read_json(folder, "config_sentence_transformers.json")?;
    let Some(name) = config["default_prompt_name"].as_str() else { return Ok(String::new()) };
    let prompt = config["prompts"][name].as_str().map(str::to_owned);
    prompt.ok_or_else(|| invalid(format!("default_prompt_name is {:?}, but there is no such prompt", printable(name))))
}

fn found(value: &Value) -> String {
    if value.is_null() { "missing".to_owned() } else { printable(&value.to_string()) }
}
