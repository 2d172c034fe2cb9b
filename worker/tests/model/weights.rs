//! Decoders in folders with safetensors. The test folders are written from GGUF files, so both must agree.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    path::{Path, PathBuf},
};

use candle_core::{
    DType, Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{self, Value as Entry},
    },
};
use rbee_schema::FailureCode;
use rbee_worker::{
    architecture::tensor_name_in_folder,
    contract::{Chat, Loaded, Sequence, SequenceId},
    model_file::gguf::Gguf,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{GREEDY, folder, load_path, test_model, tiny::Tiny, user};

/// Largest difference of log-probabilities when the weights are equal and only the order of some sums differs.
const TOLERANCE: f32 = 1e-3;

/// A model with weights as floats, under the names of GGUF files.
struct FloatModel {
    metadata: HashMap<String, Entry>,
    tensors: BTreeMap<String, Tensor>,
}

impl FloatModel {
    /// Reads the first `layers` layers of a GGUF file.
    fn from_gguf(path: &Path, layers: usize) -> Self {
        let mut file = File::open(path).expect("opens");
        let content = gguf_file::Content::read(&mut file).expect("reads");
        let is_kept = |name: &&String| {
            let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
            layer.is_none_or(|layer| layer < layers)
        };
        let mut number = |name: &String| {
            let tensor = content.tensor(&mut file, name, &Device::Cpu).expect("reads");
            (name.clone(), tensor.dequantize(&Device::Cpu).expect("dequantizes"))
        };
        let tensors = content.tensor_infos.keys().filter(is_kept).map(&mut number).collect();
        let mut metadata = content.metadata.clone();
        let name = format!("{}.block_count", content.metadata["general.architecture"].to_string().expect("a text"));
        metadata.insert(name, Entry::U32(layers as u32));
        Self { metadata, tensors }
    }

    fn architecture(&self) -> &str {
        self.metadata["general.architecture"].to_string().expect("a text")
    }

    fn count(&self, key: &str) -> Option<u32> {
        self.metadata.get(&format!("{}.{key}", self.architecture())).map(|entry| entry.to_u32().expect("a count"))
    }

    fn number(&self, key: &str) -> Option<f32> {
        self.metadata.get(&format!("{}.{key}", self.architecture())).map(|entry| entry.to_f32().expect("a number"))
    }

    /// Writes the model as a GGUF file of floats.
    fn write_file(&self, kind: GgmlDType) -> (TempDir, PathBuf) {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("floats.gguf");
        let kind_of = |tensor: &Tensor| if tensor.rank() == 1 { GgmlDType::F32 } else { kind };
        let floats: BTreeMap<&str, QTensor> = self
            .tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), QTensor::quantize(tensor, kind_of(tensor)).expect("converts")))
            .collect();
        let metadata: Vec<(&str, &Entry)> = self.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors: Vec<(&str, &QTensor)> = floats.iter().map(|(name, tensor)| (*name, tensor)).collect();
        gguf_file::write(&mut File::create(&path).expect("creates"), &metadata, &tensors).expect("writes");
        (folder, path)
    }

    /// Writes the model as transformers does, with the weights in `files` files.
    fn write_folder(&self, kind: DType, files: usize) -> TempDir {
        let folder = TempDir::new().expect("a folder");
        folder::write(&folder, "config.json", &self.config());
        let mut parts: Vec<HashMap<String, Tensor>> = vec![HashMap::new(); files];
        let mut map = serde_json::Map::new();
        for (index, (name, tensor)) in self.tensors.iter().enumerate() {
            let tensor = if self.architecture() == "llama" { self.as_trained(name, tensor) } else { tensor.clone() };
            let kind = if tensor.rank() == 1 { DType::F32 } else { kind };
            let name = tensor_name_in_folder(name).expect("known");
            map.insert(name.clone(), format!("{}.safetensors", index % files).into());
            parts[index % files].insert(name, tensor.to_dtype(kind).expect("converts"));
        }
        if let [whole] = parts.as_slice() {
            candle_core::safetensors::save(whole, folder.path().join("model.safetensors")).expect("writes");
            return folder;
        }
        folder::write(&folder, "model.safetensors.index.json", &json!({ "weight_map": map }));
        for (index, part) in parts.iter().enumerate() {
            candle_core::safetensors::save(part, folder.path().join(format!("{index}.safetensors"))).expect("writes");
        }
        folder
    }

    /// Restores the order of training. Converters to GGUF reorder Llama's queries and keys so that model that are rotated
    /// together are neighbors.
    fn as_trained(&self, name: &str, tensor: &Tensor) -> Tensor {
        let heads = match name.rsplit('.').nth(1) {
            Some("attn_q") => self.count("attention.head_count"),
            Some("attn_k") => self.count("attention.head_count_kv"),
            _ => None,
        };
        let Some(heads) = heads else { return tensor.clone() };
        let (rows, columns) = tensor.dims2().expect("a matrix");
        let pairs = rows / heads as usize / 2;
        let reordered = tensor.reshape((heads as usize, pairs, 2, columns)).and_then(|tensor| tensor.transpose(1, 2));
        reordered.and_then(|tensor| tensor.contiguous()?.reshape((rows, columns))).expect("reorders")
    }

    fn config(&self) -> Value {
        json!({
            "model_type": self.architecture(),
            "num_hidden_layers": self.count("block_count"),
            "max_position_embeddings": self.count("context_length"),
            "hidden_size": self.count("embedding_length"),
            "intermediate_size": self.count("feed_forward_length"),
            "num_attention_heads": self.count("attention.head_count"),
            "num_key_value_heads": self.count("attention.head_count_kv"),
            "rms_norm_eps": self.number("attention.layer_norm_rms_epsilon"),
            "rope_theta": self.number("rope.freq_base"),
            "tie_word_embeddings": !self.tensors.contains_key("output.weight"),
            "hidden_act": "silu",
        })
    }
}

fn load(path: &Path) -> Loaded {
    load_path(path.to_path_buf(), Some(256), 1).expect("loads")
}

/// `count` tokens that are not control tokens.
fn text(count: usize) -> Vec<u32> {
    (0..count as u32).map(|index| 20 + index * 7919 % 200).collect()
}

fn greedy(loaded: &mut Loaded, prompt: &[u32], count: usize) -> Vec<u32> {
    let sequence = Sequence { prompt: prompt.to_vec(), emitted: Vec::new(), sampling: GREEDY, constraint: None };
    loaded.engine.admit(SequenceId(0), sequence).expect("admitted");
    let mut made = Vec::new();
    while made.len() < count {
        made.extend(loaded.engine.step().into_iter().map(|(_, token)| token.expect("no failure").id));
    }
    loaded.engine.release(SequenceId(0));
    made.truncate(count);
    made
}

/// Asserts that two models score a text equally and continue it with the same tokens.
fn assert_equivalent(one: &mut Loaded, other: &mut Loaded, what: &str) {
    let text = text(120);
    let [scores, others] = [&mut *one, &mut *other].map(|loaded| loaded.engine.score(&text).expect("scores"));
    let difference = scores.iter().zip(&others).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
    println!("{what}: scores differ by {difference}");
    assert!(difference <= TOLERANCE, "{what}: scores differ by {difference}");
    assert_eq!(greedy(one, &text, 32), greedy(other, &text, 32), "{what}");
}

/// Adds the tokenizer files to a folder with weights.
fn with_text(weights: TempDir) -> TempDir {
    let text = folder::folder();
    for entry in fs::read_dir(text.path()).expect("reads") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), weights.path().join(entry.file_name())).expect("copies");
    }
    weights
}

#[test]
fn folder_answers_as_the_gguf_file_of_the_same_floats() {
    // Three layers only: all of them would take a gigabyte of disk.
    let model = FloatModel::from_gguf(&test_model(), 3);
    for (dtype, kind, files) in
        [(DType::F32, GgmlDType::F32, 1), (DType::BF16, GgmlDType::BF16, 2), (DType::F16, GgmlDType::F16, 1)]
    {
        let (_kept, file) = model.write_file(kind);
        let folder = with_text(model.write_folder(dtype, files));
        assert_equivalent(&mut load(&file), &mut load(folder.path()), &format!("{dtype:?}"));
    }
}

#[test]
fn chat_is_answered_from_a_folder() {
    let model = FloatModel::from_gguf(&test_model(), 30);
    let folder = with_text(model.write_folder(DType::BF16, 1));
    let (mut from_folder, mut from_file) = (load(folder.path()), load(&test_model()));
    let prompt = from_folder.text.prompt(&Chat::new(&user("What is the capital of France?"))).expect("renders");
    assert_eq!(Ok(&prompt), from_file.text.prompt(&Chat::new(&user("What is the capital of France?"))).as_ref());
    let answer = greedy(&mut from_folder, &prompt, 8);
    let bytes: Vec<u8> = answer.iter().flat_map(|token| from_folder.text.piece(*token)).copied().collect();
    assert_eq!(String::from_utf8_lossy(&bytes), "The capital of France is Paris.");
    // The file and the folder round different numbers: one the inputs (to 8 bits), the other the weights (to BF16).
    let mean = |loaded: &mut Loaded| {
        let scores = loaded.engine.score(&prompt).expect("scores");
        scores.iter().sum::<f32>() / scores.len() as f32
    };
    let (one, other) = (mean(&mut from_folder), mean(&mut from_file));
    assert!((one - other).abs() < 0.05, "{one}, {other}");
}

/// A small model of another architecture.
fn tiny(architecture: &str) -> FloatModel {
    let mut tiny = Tiny::new();
    let renamed = std::mem::take(&mut tiny.metadata).into_iter();
    tiny.metadata = renamed.map(|(key, value)| (key.replace("llama.", &format!("{architecture}.")), value)).collect();
    tiny = tiny.with("general.architecture", Entry::String(architecture.into()));
    tiny.tensor("output", &[258, 64], GgmlDType::F32);
    let extra: &[(&str, usize)] = match architecture {
        "qwen2" => &[("attn_q.bias", 64), ("attn_k.bias", 32), ("attn_v.bias", 32)],
        "qwen3" => &[("attn_q_norm.weight", 16), ("attn_k_norm.weight", 16)],
        _ => &[],
    };
    let folder = TempDir::new().expect("a folder");
    let path = tiny.write(&folder);
    let mut model = FloatModel::from_gguf(&path, 1);
    for (name, length) in extra {
        let values: Vec<f32> = (0..*length).map(|index| 1.0 + 0.3 * (index as f32).sin()).collect();
        let tensor = Tensor::from_vec(values, *length, &Device::Cpu).expect("a vector");
        model.tensors.insert(format!("blk.0.{name}"), tensor);
    }
    model
}

#[test]
fn every_architecture_in_a_folder_answers_as_its_gguf_file() {
    for architecture in ["llama", "qwen2", "qwen3"] {
        let model = tiny(architecture);
        let (_kept, file) = model.write_file(GgmlDType::F32);
        let folder = model.write_folder(DType::F32, 1);
        let gguf = Gguf::open(&file).expect("opens");
        folder::write(&folder, "tokenizer.json", &folder::tokenizer(gguf.metadata()));
        assert_equivalent(&mut load(&file), &mut load(folder.path()), architecture);
    }
}

#[test]
fn incomplete_folder_is_refused() {
    let model = tiny("llama");
    let refused = |change: &dyn Fn(&TempDir), words: &str| {
        let folder = model.write_folder(DType::F32, 1);
        let (_kept, file) = model.write_file(GgmlDType::F32);
        let gguf = Gguf::open(&file).expect("opens");
        folder::write(&folder, "tokenizer.json", &folder::tokenizer(gguf.metadata()));
        change(&folder);
        let failure = load_path(folder.path().into(), None, 1).err().expect(words);
        assert!(failure.message.contains(words), "expected `{words}`: {failure}");
        assert!(failure.message.contains(&folder.path().display().to_string()), "the folder is named: {failure}");
        failure.code
    };
    let config = |key: &'static str, value: Value| {
        let mut config = model.config();
        config[key] = value;
        move |folder: &TempDir| folder::write(folder, "config.json", &config)
    };
    let code = refused(&config("model_type", json!("mamba")), "\"mamba\": supported in folders are llama");
    assert_eq!(code, FailureCode::ModelUnsupported);
    refused(&config("num_hidden_layers", json!(2)), "2 blocks, but there are no tensors of the last");
    refused(&config("num_hidden_layers", json!(u32::MAX)), "there are no tensors of the last");
    refused(&config("hidden_size", json!(128)), "has the shape");
    refused(&config("num_attention_heads", json!(0)), "head_count in the header is 0");
    let removed =
        |name: &'static str| move |folder: &TempDir| fs::remove_file(folder.path().join(name)).expect("removes");
    assert_eq!(refused(&removed("config.json"), "no config.json"), FailureCode::ModelMissing);
    assert_eq!(refused(&removed("tokenizer.json"), "no tokenizer.json"), FailureCode::ModelMissing);
    assert_eq!(refused(&removed("model.safetensors"), "neither model.safetensors"), FailureCode::ModelMissing);
    let changed = |change: fn(&mut HashMap<String, Tensor>)| {
        move |folder: &TempDir| {
            let path = folder.path().join("model.safetensors");
            let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).expect("reads");
            change(&mut tensors);
            candle_core::safetensors::save(&tensors, &path).expect("writes");
        }
    };
    let without_head = changed(|tensors| drop(tensors.remove("lm_head.weight")));
    refused(&without_head, "lm_head.weight is missing");
    let with_bias = changed(|tensors| {
        let bias = Tensor::zeros(64, DType::F32, &Device::Cpu).expect("zeros");
        tensors.insert("model.layers.0.self_attn.q_proj.bias".into(), bias);
    });
    refused(&with_bias, "the model has the tensor model.layers.0.self_attn.q_proj.bias");
    let whole_numbers = changed(|tensors| {
        let norm = Tensor::ones(64, DType::I64, &Device::Cpu).expect("ones");
        tensors.insert("model.norm.weight".into(), norm);
    });
    refused(&whole_numbers, "the tensor model.norm.weight is stored as I64");
}
