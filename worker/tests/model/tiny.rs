//! A model of a few kilobytes: one block, a vocabulary of single bytes, weights without meaning.
//!
//! It is a complete GGUF file, so that tests can remove or change any part of it.

use std::{collections::BTreeMap, fs, io::Cursor, path::PathBuf};

use candle_core::{
    Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{Value, write},
    },
};
use tempfile::TempDir;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// Width of the embedding.
const WIDTH: usize = 64;
const TEMPLATE: &str = "{% for message in messages %}\
    <|im_start|>{{ message.role }}\n{{ message.content | trim }}<|im_end|>\n\
    {% endfor %}<|im_start|>assistant\n";

/// Contents of the file.
pub(crate) struct Tiny {
    /// Keys and values of the header.
    pub(crate) metadata: BTreeMap<String, Value>,
    /// Tensors by name.
    pub(crate) tensors: BTreeMap<String, QTensor>,
}

impl Tiny {
    /// Creates a model that loads.
    pub(crate) fn new() -> Self {
        let tokens = tokens();
        let mut tiny = Self { metadata: metadata(&tokens), tensors: BTreeMap::new() };
        let (rows, inner, key_values) = (tokens.len(), 2 * WIDTH, WIDTH / 2);
        tiny.tensor("token_embd", &[rows, WIDTH], GgmlDType::Q8_0);
        tiny.tensor("output_norm", &[WIDTH], GgmlDType::F32);
        for (name, shape) in [
            ("attn_q", [WIDTH, WIDTH]),
            ("attn_k", [key_values, WIDTH]),
            ("attn_v", [key_values, WIDTH]),
            ("attn_output", [WIDTH, WIDTH]),
            ("ffn_gate", [inner, WIDTH]),
            ("ffn_up", [inner, WIDTH]),
            ("ffn_down", [WIDTH, inner]),
        ] {
            tiny.tensor(&format!("blk.0.{name}"), &shape, GgmlDType::Q4_1);
        }
        tiny.tensor("blk.0.attn_norm", &[WIDTH], GgmlDType::F32);
        tiny.tensor("blk.0.ffn_norm", &[WIDTH], GgmlDType::F32);
        tiny
    }

    /// Sets a key.
    pub(crate) fn with(mut self, key: &str, value: Value) -> Self {
        self.metadata.insert(key.into(), value);
        self
    }

    /// Removes a key or a tensor.
    pub(crate) fn without(mut self, name: &str) -> Self {
        let known = self.metadata.remove(name).is_some() || self.tensors.remove(name).is_some();
        assert!(known, "{name}");
        self
    }

    /// Adds or replaces the tensor `NAME.weight`.
    pub(crate) fn tensor(&mut self, name: &str, shape: &[usize], kind: GgmlDType) {
        let count = shape.iter().product::<usize>();
        let seed = name.len() as f32;
        let values: Vec<f32> = (0..count).map(|index| 0.5 * (index as f32 * seed * 1.7).sin()).collect();
        let values = Tensor::from_vec(values, shape, &Device::Cpu).expect("shape");
        self.tensors.insert(format!("{name}.weight"), QTensor::quantize(&values, kind).expect("quantizes"));
    }

    /// Writes the file to a folder.
    pub(crate) fn write(&self, folder: &TempDir) -> PathBuf {
        let path = folder.path().join("tiny.gguf");
        fs::write(&path, self.bytes()).expect("writes");
        path
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        let metadata: Vec<_> = self.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors: Vec<_> = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        write(&mut file, &metadata, &tensors).expect("writes");
        file.into_inner()
    }
}

/// One token for each byte, then the control tokens.
fn tokens() -> Vec<String> {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let control = ["<|im_start|>", "<|im_end|>"].map(str::to_owned);
    alphabet.into_iter().map(String::from).chain(control).collect()
}

fn metadata(tokens: &[String]) -> BTreeMap<String, Value> {
    let text = |text: &str| Value::String(text.into());
    let last = tokens.len() as u32 - 1;
    let kinds = (0..=last).map(|id| Value::I32(if id + 1 >= last { 3 } else { 1 })).collect();
    let keys = [
        ("general.architecture", text("llama")),
        ("llama.block_count", Value::U32(1)),
        ("llama.context_length", Value::U32(256)),
        ("llama.embedding_length", Value::U32(WIDTH as u32)),
        ("llama.feed_forward_length", Value::U32(2 * WIDTH as u32)),
        ("llama.attention.head_count", Value::U32(4)),
        ("llama.attention.head_count_kv", Value::U32(2)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.dimension_count", Value::U32(WIDTH as u32 / 4)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("gpt-2")),
        ("tokenizer.ggml.tokens", Value::Array(tokens.iter().map(|token| text(token)).collect())),
        ("tokenizer.ggml.token_type", Value::Array(kinds)),
        ("tokenizer.ggml.merges", Value::Array(Vec::new())),
        ("tokenizer.ggml.bos_token_id", Value::U32(last - 1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(last)),
        ("tokenizer.chat_template", text(TEMPLATE)),
    ];
    keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
