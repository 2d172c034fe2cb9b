//! Converts the `config.json` of a decoder in a folder to GGUF metadata, so that one description serves both formats.
//!
//! Weights in a folder are in the order of training. Converters to GGUF reorder the queries and keys of Llama so that numbers
//! that are rotated together are neighbors; in a folder, one of them is in each half of a head.
//! Keys: <https://huggingface.co/docs/transformers/model_doc/llama#transformers.LlamaConfig>.

use std::collections::HashMap;

use rbee_schema::Failure;
use serde_json::Value;

use super::{
    config_value::{optional_count, optional_number},
    rope_config::{RopeConfig, RopeScaling},
};
use crate::model_file::{
    error::{printable, unsupported},
    gguf::Value as Entry,
};

/// Supported values of `model_type`, and the names of these architectures in GGUF files.
const ARCHITECTURES: [(&str, &str); 4] =
    [("llama", "llama"), ("mistral", "llama"), ("qwen2", "qwen2"), ("qwen3", "qwen3")];

/// Keys of counts in GGUF files and in `config.json`.
const COUNTS: [(&str, &str); 7] = [
    ("block_count", "num_hidden_layers"),
    ("context_length", "max_position_embeddings"),
    ("embedding_length", "hidden_size"),
    ("feed_forward_length", "intermediate_size"),
    ("attention.head_count", "num_attention_heads"),
    ("attention.head_count_kv", "num_key_value_heads"),
    ("attention.key_length", "head_dim"),
];

/// Names of a layer's tensors in GGUF files and in folders.
const LAYER_TENSORS: [(&str, &str); 11] = [
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

/// The `config.json` of a decoder.
#[derive(Debug)]
pub struct DecoderConfig {
    /// The settings as GGUF metadata.
    pub metadata: HashMap<String, Entry>,
    /// Divisor of the rotary frequency of each pair of numbers; `None` if all pairs have the same one.
    pub rope_factors: Option<Vec<f32>>,
    /// True if the output matrix is the embedding; `None` if the file does not say.
    pub is_tied: Option<bool>,
}

impl DecoderConfig {
    /// Reads the document.
    ///
    /// # Errors
    /// `model-unsupported`, with what was found and what is supported; `model-invalid` for a value of the wrong type.
    pub fn read(config: &Value) -> Result<Self, Failure> {
        let name = config["model_type"].as_str().unwrap_or_default();
        let Some((_, architecture)) = ARCHITECTURES.into_iter().find(|(known, _)| *known == name) else {
            let known = ARCHITECTURES.map(|(known, _)| known).join(", ");
            let name = printable(name);
            return Err(unsupported(format!("the architecture is {name:?}: supported in folders are {known}")));
        };
        check_supported(config)?;
        let rope = RopeConfig::read(config)?;
        let mut entries = vec![
            ("attention.layer_norm_rms_epsilon", optional_number(config, "rms_norm_eps")?.map(Entry::F32)),
            ("rope.freq_base", rope.base.map(Entry::F32)),
        ];
        for (key, name) in COUNTS {
            entries.push((key, optional_count(config, name)?.map(Entry::U32)));
        }
        if name == "mistral" {
            entries.push(("attention.sliding_window", optional_count(config, "sliding_window")?.map(Entry::U32)));
        }
        if let RopeScaling::Linear(factor) = rope.scaling {
            entries.push(("rope.scaling.type", Some(Entry::String("linear".into()))));
            entries.push(("rope.scaling.factor", factor.map(Entry::F32)));
        }
        let present = entries.into_iter().filter_map(|(key, entry)| Some((format!("{architecture}.{key}"), entry?)));
        let mut metadata: HashMap<String, Entry> = present.collect();
        metadata.insert("general.architecture".into(), Entry::String(architecture.into()));
        let rope_factors = match rope.scaling {
            RopeScaling::Llama3(factors) => Some(factors),
            RopeScaling::None | RopeScaling::Linear(_) => None,
        };
        Ok(Self { metadata, rope_factors, is_tied: config["tie_word_embeddings"].as_bool() })
    }
}

/// Name in a folder of the tensor with this name in GGUF files.
pub fn tensor_name_in_folder(name: &str) -> Option<String> {
    match name {
        "token_embd.weight" => return Some("model.embed_tokens.weight".to_owned()),
        "output_norm.weight" => return Some("model.norm.weight".to_owned()),
        "output.weight" => return Some("lm_head.weight".to_owned()),
        _ => {}
    }
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = part.rsplit_once('.')?;
    let (_, part) = LAYER_TENSORS.into_iter().find(|(known, _)| *known == part)?;
    Some(format!("model.layers.{layer}.{part}.{kind}"))
}

fn check_supported(config: &Value) -> Result<(), Failure> {
    match config["hidden_act"].as_str() {
        None | Some("silu") => {}
        Some(other) => return Err(unsupported(format!("the activation is {:?}: supported is silu", printable(other)))),
    }
    if config["use_sliding_window"] == true {
        return Err(unsupported("some layers have a sliding window: use a GGUF file of this model"));
    }
    if !config["quantization_config"].is_null() {
        return Err(unsupported(
            "the weights are quantized in a format that is not supported: use a GGUF file, or the original weights",
        ));
    }
    Ok(())
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
            assert_eq!(tensor_name_in_folder(name).as_deref(), expected, "{name}");
        }
    }

    /// The factors of Llama 3.2 1B: the first and last of 32 pairs, and those between.
    #[test]
    fn rope_factors_are_those_of_llama_3() {
        let config = json!({
            "model_type": "llama", "hidden_size": 2048, "num_attention_heads": 32, "head_dim": 64, "rope_theta": 500000.0,
            "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        });
        let factors = DecoderConfig::read(&config).expect("sound").rope_factors.expect("factors");
        assert_eq!((factors.len(), factors[0], factors[31]), (32, 1.0, 32.0));
        assert!(factors.windows(2).all(|pair| pair[0] <= pair[1]));
        let close = |(found, expected): (&f32, f32)| (found / expected - 1.0).abs() < 1e-4;
        assert!(factors[14..18].iter().zip(BETWEEN).all(close), "{factors:?}");
    }

    /// Quotients of frequencies before and after `ROPE_INIT_FUNCTIONS["llama3"]` of transformers.
    const BETWEEN: [f32; 4] = [1.0, 1.651_329_2, 3.292_262_6, 9.666_73];

    #[test]
    fn unsupported_settings_are_named() {
        for (change, words) in [
            (json!({"model_type": "mamba"}), "\"mamba\": supported in folders are llama, mistral, qwen2, qwen3"),
            (json!({"hidden_act": "relu"}), "\"relu\": supported is silu"),
            (json!({"hidden_size": -1}), "hidden_size in config.json is -1: expected a count"),
            (json!({"rms_norm_eps": "x"}), "rms_norm_eps in config.json is \\\"x\\\": expected a number"),
            (json!({"rope_scaling": {"type": "yarn"}}), "\"yarn\": supported in folders are default"),
            (json!({"rope_scaling": {"rope_type": "llama3"}}), "factor in config.json is null"),
            (json!({"quantization_config": {}}), "quantized in a format"),
            (json!({"use_sliding_window": true}), "sliding window"),
        ] {
            let mut config = json!({"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4});
            for (key, value) in change.as_object().expect("an object") {
                config[key] = value.clone();
            }
            let failure = DecoderConfig::read(&config).expect_err(words);
            assert!(failure.message.contains(words), "expected `{words}`: {failure}");
        }
    }
}
