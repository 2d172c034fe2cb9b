//! A decoder in a folder: what its `config.json` says, in the words of a GGUF header, so that one description serves both.
//!
//! Weights stand as their makers trained them. The converters to GGUF reorder queries and keys of llama so that numbers that
//! turn together are neighbours; here they are where they were, one in each half of a head.
//! Keys: <https://huggingface.co/docs/transformers/model_doc/llama#transformers.LlamaConfig>.

use std::{collections::HashMap, f64::consts::PI};

use candle_core::quantized::gguf_file::Value as Entry;
use rbee_schema::Failure;
use serde_json::Value;

use super::{invalid, shown, unsupported};

/// The architectures that can be read, as `model_type` names them, and what GGUF files call them.
const ARCHITECTURES: [(&str, &str); 4] =
    [("llama", "llama"), ("mistral", "llama"), ("qwen2", "qwen2"), ("qwen3", "qwen3")];

/// Counts: what GGUF files call them, and what `config.json` does.
const COUNTS: [(&str, &str); 7] = [
    ("block_count", "num_hidden_layers"),
    ("context_length", "max_position_embeddings"),
    ("embedding_length", "hidden_size"),
    ("feed_forward_length", "intermediate_size"),
    ("attention.head_count", "num_attention_heads"),
    ("attention.head_count_kv", "num_key_value_heads"),
    ("attention.key_length", "head_dim"),
];

/// Parts of a layer: what GGUF files call them, and what a folder does.
const PARTS: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// A decoder's `config.json`, read.
#[derive(Debug)]
pub struct Config {
    /// As in the header of a GGUF file.
    pub metadata: HashMap<String, Entry>,
    /// What the angle of each pair of numbers is divided by, where positions are stretched by more than one number.
    pub rope_factors: Option<Vec<f32>>,
    /// Whether logits are products with the embedding; `None` where it does not say.
    pub is_tied: Option<bool>,
}

impl Config {
    /// Reads the document.
    ///
    /// # Errors
    /// `model-unsupported`, naming what was found and what is supported; `model-invalid` for numbers that are none.
    pub fn read(config: &Value) -> Result<Self, Failure> {
        let name = config["model_type"].as_str().unwrap_or_default();
        let Some((_, architecture)) = ARCHITECTURES.into_iter().find(|(known, _)| *known == name) else {
            let known = ARCHITECTURES.map(|(known, _)| known).join(", ");
            let name = shown(name);
            return Err(unsupported(format!("its architecture is {name:?}: supported in folders are {known}")));
        };
        refuse_peculiarities(config)?;
        let mut read =
            Self { metadata: HashMap::new(), rope_factors: None, is_tied: config["tie_word_embeddings"].as_bool() };
        read.metadata.insert("general.architecture".into(), Entry::String(architecture.into()));
        let mut put = |key: &str, entry: Option<Entry>| {
            let entry = entry.map(|entry| (format!("{architecture}.{key}"), entry));
            read.metadata.extend(entry);
        };
        for (key, name) in COUNTS {
            put(key, count(config, name)?.map(Entry::U32));
        }
        put("attention.layer_norm_rms_epsilon", number(config, "rms_norm_eps")?.map(Entry::F32));
        // Since 2025 everything about positions stands together.
        let rope = if config["rope_parameters"].is_object() { &config["rope_parameters"] } else { config };
        put("rope.freq_base", number(rope, "rope_theta")?.map(Entry::F32));
        if name == "mistral" {
            put("attention.sliding_window", count(config, "sliding_window")?.map(Entry::U32));
        }
        let scaling = if config["rope_parameters"].is_object() { rope } else { &config["rope_scaling"] };
        match scaling["rope_type"].as_str().or(scaling["type"].as_str()) {
            None | Some("default") => {}
            Some("linear") => {
                put("rope.scaling.type", Some(Entry::String("linear".into())));
                put("rope.scaling.factor", number(scaling, "factor")?.map(Entry::F32));
            }
            Some("llama3") => read.rope_factors = Some(llama_3_factors(config, rope, scaling)?),
            Some(other) => {
                let other = shown(other);
                return Err(unsupported(format!(
                    "it scales rotary positions by {other:?}: supported in folders are default, linear, llama3"
                )));
            }
        }
        Ok(read)
    }
}

/// What a folder calls the tensor of this name in GGUF files.
pub fn name_in_folder(name: &str) -> Option<String> {
    match name {
        "token_embd.weight" => return Some("model.embed_tokens.weight".to_owned()),
        "output_norm.weight" => return Some("model.norm.weight".to_owned()),
        "output.weight" => return Some("lm_head.weight".to_owned()),
        _ => {}
    }
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = part.rsplit_once('.')?;
    let (_, part) = PARTS.into_iter().find(|(known, _)| *known == part)?;
    Some(format!("model.layers.{layer}.{part}.{kind}"))
}

fn refuse_peculiarities(config: &Value) -> Result<(), Failure> {
    match config["hidden_act"].as_str() {
        None | Some("silu") => {}
        Some(other) => return Err(unsupported(format!("its activation is {:?}: supported is silu", shown(other)))),
    }
    if config["use_sliding_window"] == true {
        return Err(unsupported("some of its layers see a part of the text: take a GGUF file of it"));
    }
    if !config["quantization_config"].is_null() {
        return Err(unsupported(
            "its weights are quantised in a way of its own: take a GGUF file, or the original weights",
        ));
    }
    Ok(())
}

/// A count that may be missing.
fn count(config: &Value, key: &str) -> Result<Option<u32>, Failure> {
    match &config[key] {
        Value::Null => Ok(None),
        value => match value.as_u64().and_then(|count| u32::try_from(count).ok()) {
            Some(count) => Ok(Some(count)),
            None => Err(wrong(key, value, "a count")),
        },
    }
}

/// A number that may be missing.
fn number(config: &Value, key: &str) -> Result<Option<f32>, Failure> {
    match &config[key] {
        Value::Null => Ok(None),
        value => match value.as_f64().map(|number| number as f32) {
            Some(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(wrong(key, value, "a number")),
        },
    }
}

fn wrong(key: &str, value: &Value, expected: &str) -> Failure {
    invalid(format!("{key} in its config.json is {}: expected {expected}", shown(&value.to_string())))
}

/// Long waves are stretched, short ones are not, and those between by how long they are: transformers'
/// `_compute_llama3_parameters`.
fn llama_3_factors(config: &Value, rope: &Value, scaling: &Value) -> Result<Vec<f32>, Failure> {
    let needed = |of: &Value, key: &str| match number(of, key)? {
        Some(number) if number > 0.0 => Ok(f64::from(number)),
        _ => Err(wrong(key, &of[key], "a number above 0")),
    };
    let factor = needed(scaling, "factor")?;
    let (low, high) = (needed(scaling, "low_freq_factor")?, needed(scaling, "high_freq_factor")?);
    let first = needed(scaling, "original_max_position_embeddings")?;
    let base = number(rope, "rope_theta")?.map_or(10_000.0, f64::from);
    let head = match count(config, "head_dim")? {
        Some(head) => head,
        None => count(config, "hidden_size")?
            .unwrap_or(0)
            .checked_div(count(config, "num_attention_heads")?.unwrap_or(0))
            .unwrap_or(0),
    };
    if head > rbee_kernels::MAX_HEAD_SIZE as u32 || low >= high {
        return Err(invalid(format!("its rope_scaling has the factors {low} and {high} for heads of {head} numbers")));
    }
    let of_pair = |pair: u32| {
        let wave = 2.0 * PI * base.powf(f64::from(2 * pair) / f64::from(head));
        if wave < first / high {
            return 1.0;
        }
        if wave > first / low {
            return factor as f32;
        }
        let part = (first / wave - low) / (high - low);
        (1.0 / ((1.0 - part) / factor + part)) as f32
    };
    Ok((0..head / 2).map(of_pair).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tensors_have_the_names_of_transformers() {
        for (name, expected) in [
            ("token_embd.weight", Some("model.embed_tokens.weight")),
            ("blk.11.attn_q.bias", Some("model.layers.11.self_attn.q_proj.bias")),
            ("blk.0.ffn_down.weight", Some("model.layers.0.mlp.down_proj.weight")),
            ("blk.0.ffn_norm.weight", Some("model.layers.0.post_attention_layernorm.weight")),
            ("blk.0.attn_qkv.weight", None),
            ("rope_freqs.weight", None),
        ] {
            assert_eq!(name_in_folder(name).as_deref(), expected, "{name}");
        }
    }

    /// Those of Llama 3.2 1B: the first and last of its 32 pairs, and those between.
    #[test]
    fn positions_are_stretched_as_llama_3_says() {
        let config = json!({
            "model_type": "llama", "hidden_size": 2048, "num_attention_heads": 32, "head_dim": 64, "rope_theta": 500000.0,
            "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        });
        let factors = Config::read(&config).expect("sound").rope_factors.expect("factors");
        assert_eq!((factors.len(), factors[0], factors[31]), (32, 1.0, 32.0));
        assert!(factors.windows(2).all(|pair| pair[0] <= pair[1]));
        let close = |(found, expected): (&f32, f32)| (found / expected - 1.0).abs() < 1e-4;
        assert!(factors[14..18].iter().zip(BETWEEN).all(close), "{factors:?}");
    }

    /// Quotients of frequencies without and with what transformers' `ROPE_INIT_FUNCTIONS["llama3"]` makes of them.
    const BETWEEN: [f32; 4] = [1.0, 1.651_329_2, 3.292_262_6, 9.666_73];

    #[test]
    fn what_cannot_be_read_is_named() {
        for (change, words) in [
            (json!({"model_type": "mamba"}), "\"mamba\": supported in folders are llama, mistral, qwen2, qwen3"),
            (json!({"hidden_act": "relu"}), "\"relu\": supported is silu"),
            (json!({"hidden_size": -1}), "hidden_size in its config.json is -1: expected a count"),
            (json!({"rms_norm_eps": "x"}), "rms_norm_eps in its config.json is \\\"x\\\": expected a number"),
            (json!({"rope_scaling": {"type": "yarn"}}), "\"yarn\": supported in folders are default"),
            (json!({"rope_scaling": {"rope_type": "llama3"}}), "factor in its config.json is null"),
            (json!({"quantization_config": {}}), "quantised in a way of its own"),
            (json!({"use_sliding_window": true}), "a part of the text"),
        ] {
            let mut config = json!({"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4});
            for (key, value) in change.as_object().expect("an object") {
                config[key] = value.clone();
            }
            let failure = Config::read(&config).expect_err(words);
            assert!(failure.message.contains(words), "expected `{words}`: {failure}");
        }
    }
}
