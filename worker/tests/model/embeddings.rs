//! Compares the encoder with sentence-transformers: the same tokens, and the same vectors.
//!
//! The reference is written by `scripts/reference_embeddings.py`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rbee_schema::{EmbeddingInput, Failure, FailureCode, ModelKind, ModelReference};
use rbee_worker::{
    contract::{Chat, LoadOptions, Loaded, Sequence, SequenceId},
    load::load,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{GREEDY, test_model, user};

/// Largest difference of a number of a vector from the reference. The requirement is a cosine distance of 1e-4; this difference
/// is a cosine distance of 5e-9.
const TOLERANCE: f32 = 5e-6;

#[derive(Deserialize)]
struct Reference {
    texts: Vec<Text>,
    pooled: Vec<Pooled>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    tokens: Vec<u32>,
    vector: String,
}

#[derive(Deserialize)]
struct Pooled {
    index: usize,
    first: String,
    mean: String,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../reference/embeddings.json")).expect("written by the script")
}

fn numbers(base64: &str) -> Vec<f32> {
    let bytes = BASE64_STANDARD.decode(base64).expect("base64");
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn model() -> PathBuf {
    test_model().with_file_name("all-MiniLM-L6-v2")
}

fn load_with(folder: &Path, options: LoadOptions) -> Result<Loaded, Failure> {
    let options = LoadOptions { kind: ModelKind::Embeddings, slots: 1, ..options };
    load(&ModelReference::File(folder.into()), &options, &mut |_| {})
}

fn loaded() -> Loaded {
    load_with(&model(), LoadOptions::default()).expect("loads; `make setup` fetches the model")
}

fn tokens(loaded: &Loaded, text: &str) -> Vec<u32> {
    loaded.text.encode_input(&EmbeddingInput::Text(text.to_owned())).expect("tokenises")
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let difference = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max);
    assert!(difference <= TOLERANCE, "{what}: off by {difference}");
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine = product(found, expected) / (product(found, found) * product(expected, expected)).sqrt();
    assert!(1.0 - cosine <= 1e-4, "{what}: a cosine of {cosine}");
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    let mut loaded = loaded();
    assert_eq!(loaded.context, 256);
    let Reference { texts, .. } = reference();
    assert!(texts.len() >= 20);
    for Text { text, tokens: expected, vector } in &texts {
        let found = tokens(&loaded, text);
        assert_eq!(&found, expected, "{text}");
        let vectors = loaded.engine.embed(&[&found]).expect("computes");
        assert_close(&vectors[0], &numbers(vector), text);
    }
}

#[test]
fn vector_does_not_depend_on_batch_or_threads() {
    let mut loaded = loaded();
    let texts: Vec<Vec<u32>> = reference().texts.into_iter().map(|text| text.tokens).collect();
    let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let together = loaded.engine.embed(&texts).expect("computes");
    let single_thread = LoadOptions { threads: Some(1), ..LoadOptions::default() };
    let mut alone = load_with(&model(), single_thread).expect("loads");
    for (text, together) in texts.iter().zip(&together) {
        let alone = alone.engine.embed(&[text]).expect("computes");
        assert!(alone[0] == *together, "a text of {} tokens", text.len());
    }
    let backwards: Vec<&[u32]> = texts.iter().rev().copied().collect();
    let backwards = loaded.engine.embed(&backwards).expect("computes");
    assert!(backwards.iter().rev().eq(&together));
}

/// A copy of the test model's folder that consists of links.
fn folder() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    for entry in fs::read_dir(model()).expect("`make setup` fetches the model") {
        let entry = entry.expect("an entry");
        std::os::unix::fs::symlink(entry.path(), folder.path().join(entry.file_name())).expect("links");
    }
    folder
}

fn replace(folder: &TempDir, name: &str, content: &[u8]) {
    let path = folder.path().join(name);
    if path.exists() {
        fs::remove_file(&path).expect("removes");
    }
    fs::write(path, content).expect("writes");
}

fn change(folder: &TempDir, name: &str, change: impl FnOnce(&mut Value)) {
    let mut document = serde_json::from_slice(&fs::read(model().join(name)).expect("reads")).expect("JSON");
    change(&mut document);
    replace(folder, name, document.to_string().as_bytes());
}

#[test]
fn pooling_and_normalization_are_read_from_the_folder() {
    let Reference { texts, pooled } = reference();
    assert_eq!(pooled.len(), 5);
    let folder = folder();
    change(&folder, "modules.json", |modules| {
        modules.as_array_mut().expect("a list").truncate(2);
    });
    fs::remove_file(folder.path().join("1_Pooling")).expect("removes");
    fs::create_dir(folder.path().join("1_Pooling")).expect("makes");
    for (config, kind) in [
        (json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}), 0),
        (json!({"pooling_mode": "cls"}), 0),
        (json!({"pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": false}), 1),
        (json!({"pooling_mode": ["mean"]}), 1),
    ] {
        fs::write(folder.path().join("1_Pooling/config.json"), config.to_string()).expect("writes");
        let mut loaded = load_with(folder.path(), LoadOptions::default()).expect("loads");
        for Pooled { index, first, mean } in &pooled {
            let vectors = loaded.engine.embed(&[&texts[*index].tokens]).expect("computes");
            assert_close(&vectors[0], &numbers([first, mean][kind]), &format!("{config}, text {index}"));
        }
    }
}

#[test]
fn text_is_truncated_to_the_declared_context() {
    let truncated = |context| {
        let loaded = load_with(&model(), LoadOptions { context, ..LoadOptions::default() }).expect("loads");
        (loaded.context, tokens(&loaded, &"buzz ".repeat(1000)).len())
    };
    assert_eq!(truncated(None), (256, 256));
    assert_eq!(truncated(Some(20)), (20, 20));
    assert_eq!(truncated(Some(512)), (512, 512), "the number of positions");
    let refused = load_with(&model(), LoadOptions { context: Some(513), ..LoadOptions::default() }).err();
    assert!(refused.is_some_and(|failure| failure.message.contains("513") && failure.message.contains("512")));
}

#[test]
fn tokens_have_the_same_encoding_as_their_text() {
    let loaded = loaded();
    let passage = |tokens: Vec<u32>| loaded.text.encode_input(&EmbeddingInput::Tokens(tokens));
    let of_text = tokens(&loaded, "Bees dance.");
    assert_eq!(passage(of_text[1..of_text.len() - 1].to_vec()), Ok(of_text));
    assert_eq!(passage(vec![12610; 1000]).map(|tokens| tokens.len()), Ok(256), "truncated like a text");
    let failure = passage(vec![30522]).expect_err("not in the vocabulary");
    assert!(failure.message.contains("30522"), "{failure}");
}

#[test]
fn encoder_refuses_chats_and_decoder_refuses_embeddings() {
    let mut loaded = loaded();
    let failure = loaded.text.prompt(&Chat::new(&user("Hi"))).expect_err("no template");
    assert!(failure.code == FailureCode::InvalidRequest && failure.message.contains("send `input`"), "{failure}");
    let sequence = Sequence { prompt: vec![1], emitted: Vec::new(), sampling: GREEDY, constraint: None };
    let failure = loaded.engine.admit(SequenceId(0), sequence).expect_err("no chat");
    assert!(failure.message.contains("does not continue text"), "{failure}");
    assert_eq!(loaded.engine.step(), Vec::new());

    let mut decoder = crate::load_path(test_model(), None, 1).expect("loads");
    let failure = decoder.text.encode_input(&EmbeddingInput::Text("Hi".into())).expect_err("no vectors");
    assert!(failure.message.contains("send `messages`"), "{failure}");
    let failure = decoder.engine.embed(&[&[1]]).expect_err("no vectors");
    assert!(failure.message.contains("computes no embeddings"), "{failure}");
}

#[test]
fn model_of_another_kind_than_declared_is_refused() {
    let as_text =
        load(&ModelReference::File(model()), &LoadOptions { slots: 1, ..LoadOptions::default() }, &mut |_| {});
    let failure = as_text.err().expect("refused");
    assert!(failure.message.contains("--kind embeddings"), "{failure}");
    let failure = load_with(&test_model(), LoadOptions::default()).err().expect("refused");
    assert!(failure.message.contains("continues text"), "{failure}");
    assert_eq!(failure.code, FailureCode::ModelUnsupported);
}

#[test]
fn unsupported_encoders_are_refused_with_the_cause() {
    for (name, changed, words) in [
        ("config.json", json!({"model_type": "t5"}), "\"t5\": supported for embeddings are bert, roberta"),
        ("config.json", json!({"hidden_act": "mish"}), "the activation is \"mish\""),
        (
            "config.json",
            json!({"position_embedding_type": "relative_key"}),
            "the position embedding is \"relative_key\"",
        ),
        ("config.json", json!({"is_decoder": true}), "describes a decoder"),
        ("config.json", json!({"num_attention_heads": 7}), "384 dimensions and 7 heads"),
        ("config.json", json!({"hidden_size": 0}), "hidden_size in config.json is 0"),
        ("config.json", json!({"hidden_size": 1u64 << 60}), "hidden_size in config.json"),
        ("config.json", json!({"hidden_size": 192}), "has the shape [2, 384]: expected [2, 192]"),
        (
            "config.json",
            json!({"num_hidden_layers": 1 << 20}),
            "encoder.layer.6.attention.self.query.weight is missing",
        ),
        ("config.json", json!({"max_position_embeddings": 3}), "positions from 0 to 3"),
        ("config.json", json!({"vocab_size": 30521}), "30522 tokens and the embedding 30521 rows"),
        ("config.json", json!({"layer_norm_eps": -1}), "layer_norm_eps"),
    ] {
        let folder = folder();
        change(&folder, name, |document| {
            for (key, value) in changed.as_object().expect("an object") {
                document[key] = value.clone();
            }
        });
        let failure = load_with(folder.path(), LoadOptions::default()).err().expect(words);
        assert!(failure.message.contains(words), "expected `{words}`: {failure}");
        let codes = [FailureCode::ModelUnsupported, FailureCode::ModelInvalid];
        assert!(codes.contains(&failure.code), "{failure:?}");
    }
    let folder = folder();
    change(&folder, "modules.json", |modules| modules[2]["type"] = "sentence_transformers.models.Dense".into());
    let failure = load_with(folder.path(), LoadOptions::default()).err().expect("refused");
    assert!(failure.message.contains("\"Dense\""), "{failure}");
}

/// A safetensors file with this header and `data` bytes of tensors.
fn safetensors(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn inconsistent_safetensors_files_are_refused() {
    let tensor =
        |shape: &str, offsets: &str| format!(r#"{{"t":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#);
    for (file, words) in [
        (Vec::new(), "too few for a header"),
        (vec![7; 4], "too few for a header"),
        (u64::MAX.to_le_bytes().to_vec(), "announces a header of 18446744073709551615 bytes"),
        (safetensors("{", 0), "the header is not a JSON list of tensors"),
        (safetensors(&tensor("[1]", "[0,4]"), 3), "truncated"),
        (safetensors(&tensor("[1]", "[0,4]"), 5), "truncated, or longer"),
        (safetensors(&tensor("[2]", "[0,4]"), 4), "a shape that does not fit"),
        (safetensors(&tensor("[4611686018427387904,4]", "[0,0]"), 0), "a shape that does not fit"),
        (safetensors(&tensor("[1]", "[4,8]"), 8), "does not begin where"),
        (safetensors(&tensor("[1]", "[4,0]"), 8), "does not begin where"),
        (safetensors(&tensor("[1]", "[0,4]").replace("F32", "F99"), 4), "the header is not a JSON list of tensors"),
        (safetensors(&tensor("[1]", "[0,4]"), 4), "embeddings.token_type_embeddings.weight is missing"),
        (
            safetensors(&tensor("[4]", "[0,4]").replace("F32", "I8").replace("\"t\"", "\"encoder.t\""), 4),
            "the tensor encoder.t is stored as I8: supported are F32, F16, BF16",
        ),
    ] {
        let folder = folder();
        replace(&folder, "model.safetensors", &file);
        let failure = load_with(folder.path(), LoadOptions::default()).err().expect(words);
        assert!(failure.message.contains(words), "expected `{words}`: {failure}");
    }
}

#[test]
fn missing_files_are_named() {
    for (name, words) in [
        ("config.json", "no config.json"),
        ("tokenizer.json", "no tokenizer.json"),
        ("model.safetensors", "neither model.safetensors nor model.safetensors.index.json"),
    ] {
        let folder = folder();
        fs::remove_file(folder.path().join(name)).expect("removes");
        let failure = load_with(folder.path(), LoadOptions::default()).err().expect(words);
        assert!(failure.code == FailureCode::ModelMissing && failure.message.contains(words), "{failure}");
    }
}

#[test]
fn weights_may_be_in_several_files() {
    let folder = folder();
    fs::remove_file(folder.path().join("model.safetensors")).expect("removes");
    std::os::unix::fs::symlink(model().join("model.safetensors"), folder.path().join("a.safetensors")).expect("links");
    let index = |names: &[&str]| {
        let map: serde_json::Map<String, Value> = names.iter().map(|name| ((*name).to_owned(), json!(name))).collect();
        json!({ "weight_map": map }).to_string()
    };
    let more = safetensors(r#"{"another":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4);
    replace(&folder, "b.safetensors", &more);
    replace(&folder, "model.safetensors.index.json", index(&["a.safetensors", "b.safetensors"]).as_bytes());
    let mut loaded = load_with(folder.path(), LoadOptions::default()).expect("loads");
    let Text { tokens, vector, .. } = &reference().texts[0];
    assert_close(&loaded.engine.embed(&[tokens]).expect("computes")[0], &numbers(vector), "several files");

    replace(&folder, "b.safetensors", &fs::read(model().join("model.safetensors")).expect("reads"));
    let failure = load_with(folder.path(), LoadOptions::default()).err().expect("twice");
    assert!(failure.message.contains("b.safetensors") && failure.message.contains("also in another file"), "{failure}");
    for names in [&["../a.safetensors"][..], &["a.bin"], &[]] {
        replace(&folder, "model.safetensors.index.json", index(names).as_bytes());
        let failure = load_with(folder.path(), LoadOptions::default()).err().expect("refused");
        assert!(failure.message.contains("in the same folder"), "{failure}");
    }
}
