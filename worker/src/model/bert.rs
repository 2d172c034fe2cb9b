//! What a folder in the format of sentence-transformers says about an encoder: `config.json`, and what becomes of its output
//! in `modules.json` and `1_Pooling/config.json`.
//!
//! Formats: <https://huggingface.co/docs/transformers/model_doc/bert#transformers.BertConfig>,
//! <https://sbert.net/docs/package_reference/sentence_transformer/models.html>.

use std::path::Path;

use rbee_schema::{Failure, FailureCode};
use rbee_transformer::{Activation, EncoderDescription, Pooling};
use serde_json::Value;

use super::{folder::json, invalid, shown, unsupported};

/// The architectures of encoders, as `model_type` names them.
pub const ARCHITECTURES: [&str; 4] = ["bert", "roberta", "xlm-roberta", "camembert"];

/// The most that a number in `config.json` can be: many times what the largest models have.
const MOST: u64 = 1 << 24;

/// The fewest positions that a model can have.
const SHORTEST: usize = 16;

/// An encoder, as its folder describes it.
pub struct Described {
    /// What it computes.
    pub description: EncoderDescription,
    /// Tokens of a text behind which it is cut, where nobody says otherwise.
    pub longest: usize,
    /// What is put before every text.
    pub prompt: String,
}

/// The architecture that a folder's `config.json` names.
///
/// # Errors
/// `model-missing` if there is no such file; `model-invalid` if it names none.
pub fn architecture(folder: &Path) -> Result<String, Failure> {
    let config = json(folder, "config.json")?;
    if config.is_null() {
        let message = "it has no config.json: name a .gguf file, or a folder with config.json and model.safetensors";
        return Err(Failure::new(FailureCode::ModelMissing, message));
    }
    let named = config["model_type"].as_str().map(str::to_owned);
    named.ok_or_else(|| invalid("its config.json has no model_type"))
}

/// Describes the encoder of a folder.
///
/// # Errors
/// `model-unsupported`, naming what was found and what is supported; `model-invalid` where a file contradicts itself.
pub fn describe(folder: &Path) -> Result<Described, Failure> {
    let name = architecture(folder)?;
    if !ARCHITECTURES.contains(&name.as_str()) {
        let (name, known) = (shown(&name), ARCHITECTURES.join(", "));
        return Err(unsupported(format!("its architecture is {name:?}: supported for embeddings are {known}")));
    }
    let config = json(folder, "config.json")?;
    let (pooling, is_normalized) = pooling(folder)?;
    let count = |key: &str| count(&config, key);
    let description = EncoderDescription {
        vocabulary: count("vocab_size")?,
        positions: count("max_position_embeddings")?,
        // RoBERTa's texts begin behind the position of padding.
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
    refuse_peculiarities(&config, &description)?;
    let longest = longest(folder, &description)?;
    Ok(Described { description, longest, prompt: prompt(folder)? })
}

fn refuse_peculiarities(config: &Value, description: &EncoderDescription) -> Result<(), Failure> {
    let EncoderDescription { width, heads, first_position, positions, .. } = *description;
    if !width.is_multiple_of(heads) {
        return Err(invalid(format!(
            "{width} dimensions and {heads} heads in its config.json do not divide each other"
        )));
    }
    if description.max_tokens() < SHORTEST {
        let found = format!("positions from {first_position} to {positions}");
        return Err(invalid(format!("its config.json has {found}: expected at least {SHORTEST}")));
    }
    match config["position_embedding_type"].as_str() {
        None | Some("absolute") => {}
        Some(other) => {
            return Err(unsupported(format!("its positions are {:?}: supported are absolute ones", shown(other))));
        }
    }
    if config["is_decoder"] == true {
        return Err(unsupported("it is a decoder in the shape of BERT: only encoders give embeddings"));
    }
    Ok(())
}

/// A count that must be there and at least 1.
fn count(config: &Value, key: &str) -> Result<usize, Failure> {
    match config[key].as_u64() {
        Some(count @ 1..=MOST) => Ok(count as usize),
        _ => Err(invalid(format!("{key} in its config.json is {}: expected 1 to {MOST}", found(&config[key])))),
    }
}

fn padding(config: &Value) -> Result<usize, Failure> {
    match &config["pad_token_id"] {
        Value::Null => Ok(1),
        value => match value.as_u64() {
            Some(id @ 0..=MOST) => Ok(id as usize),
            _ => Err(invalid(format!("pad_token_id in its config.json is {}: expected a token", found(value)))),
        },
    }
}

fn epsilon(config: &Value) -> Result<f32, Failure> {
    match &config["layer_norm_eps"] {
        Value::Null => Ok(1e-12),
        value => match value.as_f64().map(|number| number as f32) {
            Some(number) if number > 0.0 && number < 1.0 => Ok(number),
            _ => Err(invalid(format!("layer_norm_eps in its config.json is {}: expected 0 to 1", found(value)))),
        },
    }
}

fn activation(config: &Value) -> Result<Activation, Failure> {
    match config["hidden_act"].as_str() {
        None | Some("gelu") => Ok(Activation::Gelu),
        Some("gelu_new" | "gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
        Some("relu") => Ok(Activation::Relu),
        Some(other) => {
            Err(unsupported(format!("its activation is {:?}: supported are gelu, gelu_new, relu", shown(other))))
        }
    }
}

/// How its output becomes one vector, and whether that is made one long: the mean, where no file says otherwise.
fn pooling(folder: &Path) -> Result<(Pooling, bool), Failure> {
    let modules = json(folder, "modules.json")?;
    if modules.is_null() {
        return Ok((Pooling::Mean, false));
    }
    let modules = modules.as_array().ok_or_else(|| invalid("its modules.json is no list"))?;
    let (mut pooling, mut is_normalized) = (Pooling::Mean, false);
    for module in modules {
        let name = module["type"].as_str().and_then(|name| name.rsplit('.').next()).unwrap_or_default();
        match name {
            "Transformer" => {}
            "Pooling" => pooling = mode(folder, module["path"].as_str().unwrap_or_default())?,
            "Normalize" => is_normalized = true,
            other => {
                let other = shown(other);
                return Err(unsupported(format!(
                    "its modules.json has a {other:?}: supported are Transformer, Pooling, Normalize"
                )));
            }
        }
    }
    Ok((pooling, is_normalized))
}

/// What the configuration of a Pooling says, which is in a folder of its own.
fn mode(folder: &Path, path: &str) -> Result<Pooling, Failure> {
    if path.is_empty() || path.contains(['/', '\\']) || path == ".." {
        return Err(invalid(format!("its modules.json has its Pooling at {:?}: expected a folder", shown(path))));
    }
    let config = json(&folder.join(path), "config.json")?;
    // Newer versions name the modes; older ones have a truth for each.
    let named = match &config["pooling_mode"] {
        Value::String(name) => vec![name.clone()],
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => {
            let truths = config.as_object().into_iter().flatten().filter(|(_, value)| **value == true);
            truths.filter_map(|(key, _)| key.strip_prefix("pooling_mode_")).map(str::to_owned).collect()
        }
    };
    match named.iter().map(String::as_str).collect::<Vec<&str>>().as_slice() {
        [] | ["mean" | "mean_tokens"] => Ok(Pooling::Mean),
        ["cls" | "cls_token"] => Ok(Pooling::First),
        others => Err(unsupported(format!("it pools by {}: supported are mean and cls", shown(&others.join(" and "))))),
    }
}

/// Tokens behind which a text is cut, as sentence-transformers does.
fn longest(folder: &Path, description: &EncoderDescription) -> Result<usize, Failure> {
    let (own, tokenizer) = (json(folder, "sentence_bert_config.json")?, json(folder, "tokenizer_config.json")?);
    // Tokenizers without a bound say 1e30.
    let most = [&own["max_seq_length"], &tokenizer["model_max_length"]].into_iter().find_map(Value::as_u64);
    let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    Ok(most.clamp(SHORTEST, description.max_tokens()))
}

/// The text that its makers want before every other, where they name one as the default.
fn prompt(folder: &Path) -> Result<String, Failure> {
    let config = json(folder, "config_sentence_transformers.json")?;
    let Some(name) = config["default_prompt_name"].as_str() else { return Ok(String::new()) };
    let prompt = config["prompts"][name].as_str().map(str::to_owned);
    prompt.ok_or_else(|| invalid(format!("its default_prompt_name is {:?}, and it has no such prompt", shown(name))))
}

fn found(value: &Value) -> String {
    if value.is_null() { "missing".to_owned() } else { shown(&value.to_string()) }
}
