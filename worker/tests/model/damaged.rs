//! Damaged and unsupported GGUF files: loading one ends with a model or with a failure that names the cause.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::PathBuf,
};

use candle_core::quantized::{GgmlDType, gguf_file::Value};
use proptest::prelude::*;
use rbee_schema::{Failure, FailureCode};
use tempfile::TempDir;

use crate::{load_path, test_model, tiny::Tiny};

fn folder() -> TempDir {
    TempDir::new().expect("a folder")
}

fn refusal(path: PathBuf) -> Failure {
    load_path(path, None, 1).err().unwrap_or_else(|| panic!("loaded"))
}

/// Checks that loading fails with this code and these words, and that the failure names the file.
fn check(path: PathBuf, code: FailureCode, words: &str) {
    let failure = refusal(path.clone());
    assert_eq!(failure.code, code, "{failure}");
    assert!(failure.message.starts_with(&path.display().to_string()), "{failure}");
    assert!(failure.message.contains(words), "expected `{words}`: {failure}");
}

fn check_tiny(tiny: Tiny, code: FailureCode, words: &str) {
    let folder = folder();
    check(tiny.write(&folder), code, words);
}

#[test]
fn missing_file_is_reported_as_missing() {
    check("/nowhere/model.gguf".into(), FailureCode::ModelMissing, "no such file");
    check("/".into(), FailureCode::ModelMissing, "no config.json");
}

#[test]
fn other_formats_are_recognized_by_their_first_bytes() {
    let folder = folder();
    let path = folder.path().join("model.gguf");
    for (bytes, words) in [
        (&b""[..], "empty"),
        (b"PK\x03\x04...", r"begins with `PK\x03\x04`"),
        (b"GG", "begins with `GG`"),
        (b"GGUF", "truncated"),
        (b"GGUF\x03\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "expected at most"),
    ] {
        fs::write(&path, bytes).expect("writes");
        check(path.clone(), FailureCode::ModelInvalid, words);
    }
    fs::write(&path, b"GGUF\x09\0\0\0").expect("writes");
    check(path, FailureCode::ModelUnsupported, "version 9");
}

#[test]
fn truncated_file_is_reported_as_truncated() {
    let folder = folder();
    let path = folder.path().join("model.gguf");
    // In the header, at its end, and among the tensors.
    for length in [100, 1_000_000, 1_786_000, 50_000_000] {
        let mut whole = File::open(test_model()).expect("opens").take(length);
        std::io::copy(&mut whole, &mut File::create(&path).expect("creates")).expect("copies");
        check(path.clone(), FailureCode::ModelInvalid, "truncated");
    }
}

#[test]
fn inconsistent_header_is_refused() {
    use FailureCode::{ModelInvalid as Invalid, ModelUnsupported as Unsupported};
    let count = Value::U32;
    let text = |text: &str| Value::String(text.into());
    for (key, value, code, words) in [
        ("general.architecture", text("mamba"), Unsupported, "\"mamba\": supported are llama, qwen2"),
        ("general.architecture", count(1), Invalid, "expected a text"),
        ("general.alignment", count(0), Invalid, "general.alignment in the header is 0"),
        ("split.count", count(3), Unsupported, "one of 3 parts"),
        ("llama.block_count", count(0), Invalid, "block_count in the header is 0"),
        ("llama.block_count", count(2), Invalid, "2 blocks"),
        ("llama.block_count", count(u32::MAX), Invalid, "4294967295 blocks"),
        ("llama.attention.head_count", count(0), Invalid, "head_count in the header is 0"),
        ("llama.attention.head_count", count(5), Invalid, "do not divide"),
        ("llama.attention.head_count_kv", count(0), Invalid, "head_count_kv in the header is 0"),
        ("llama.attention.head_count_kv", count(3), Invalid, "do not divide"),
        ("llama.attention.head_count_kv", count(4), Invalid, "blk.0.attn_k.weight has the shape"),
        ("llama.embedding_length", count(65), Invalid, "do not divide"),
        ("llama.embedding_length", count(u32::MAX - 3), Unsupported, "1073741823 numbers"),
        ("llama.embedding_length", Value::F32(64.0), Invalid, "expected a count"),
        ("llama.feed_forward_length", count(64), Invalid, "has the shape [128, 64]: expected [64, 64]"),
        ("llama.rope.dimension_count", count(17), Invalid, "17 of the 16"),
        ("llama.rope.scaling.type", text("yarn"), Unsupported, "yarn"),
        ("llama.rope.freq_base", Value::F32(f32::NAN), Invalid, "F32(NaN): expected a finite F32"),
        ("llama.rope.freq_base", Value::F32(-1.0), Invalid, "is -1: expected more than 0"),
        ("llama.context_length", count(0), Invalid, "context_length in the header is 0"),
        ("llama.expert_count", count(8), Unsupported, "8 experts"),
        ("llama.attention.layer_norm_rms_epsilon", text("x"), Invalid, "expected a finite F32"),
        ("tokenizer.ggml.model", text("bert"), Unsupported, "bert"),
        ("tokenizer.ggml.pre", text("viking"), Unsupported, "supported are gpt-2"),
        ("tokenizer.ggml.tokens", Value::Array(vec![count(1)]), Invalid, "expected a list of texts"),
        ("tokenizer.ggml.tokens", Value::Array(vec![text("a")]), Invalid, "1 tokens and 258 token types"),
        ("tokenizer.ggml.token_type", Value::Array(vec![count(9); 258]), Invalid, "type 9"),
        ("tokenizer.ggml.merges", Value::Array(vec![text("a b")]), Invalid, "merges \"a b\""),
        ("tokenizer.ggml.merges", Value::Array(vec![text("")]), Invalid, "merges \"\""),
        ("tokenizer.ggml.eos_token_id", count(258), Invalid, "is 258, but there are 258 tokens"),
        ("tokenizer.chat_template", text("{% for %}"), Unsupported, "chat template fails"),
    ] {
        check_tiny(Tiny::new().with(key, value), code, words);
    }
}

#[test]
fn missing_keys_are_named() {
    for key in Tiny::new().metadata.into_keys() {
        let words = match key.as_str() {
            // BOS and EOS are optional.
            "tokenizer.ggml.bos_token_id" | "tokenizer.ggml.eos_token_id" => continue,
            // The defaults are the values of this model.
            "llama.attention.layer_norm_rms_epsilon" | "llama.rope.dimension_count" => continue,
            // The default is the number of query heads.
            "llama.attention.head_count_kv" => "blk.0.attn_k.weight has the shape",
            "tokenizer.ggml.pre" | "tokenizer.chat_template" => continue,
            other => other,
        };
        let folder = folder();
        let failure = refusal(Tiny::new().without(&key).write(&folder));
        assert!(failure.message.contains(words), "expected `{words}`: {failure}");
    }
}

#[test]
fn missing_and_unknown_tensors_are_refused() {
    for name in Tiny::new().tensors.into_keys() {
        let folder = folder();
        let failure = refusal(Tiny::new().without(&name).write(&folder));
        assert_eq!(failure.code, FailureCode::ModelInvalid, "{name}: {failure}");
    }
    let mut biased = Tiny::new();
    biased.tensor("blk.0.attn_q.bias", &[64], GgmlDType::F32);
    check_tiny(biased, FailureCode::ModelUnsupported, "attn_q.bias");
    let mut short = Tiny::new();
    short.tensor("token_embd", &[100, 64], GgmlDType::F32);
    check_tiny(short, FailureCode::ModelInvalid, "258 tokens and the embedding 100 rows");
}

#[test]
fn weights_that_compute_nan_are_refused_while_loading() {
    let folder = folder();
    let path = Tiny::new().write(&folder);
    let mut bytes = fs::read(&path).expect("reads");
    // The last tensor is the embedding: 258 rows of 2 blocks of 34 bytes. All scales become NaN.
    let start = bytes.len() - 258 * 2 * 34;
    bytes[start..].fill(0xFF);
    fs::write(&path, bytes).expect("writes");
    check(path, FailureCode::ModelInvalid, "not finite");
}

#[test]
fn context_is_limited_by_the_model() {
    let folder = folder();
    let path = Tiny::new().write(&folder);
    assert_eq!(load_path(path.clone(), None, 1).map(|loaded| loaded.context).ok(), Some(256));
    assert_eq!(load_path(path.clone(), Some(64), 1).map(|loaded| loaded.context).ok(), Some(64));
    let failure = load_path(path, Some(257), 1).err().expect("refused");
    assert_eq!(failure.code, FailureCode::InvalidRequest);
    assert!(failure.message.contains("257") && failure.message.contains("256"), "{failure}");
    let large = load_path(Tiny::new().with("llama.context_length", Value::U32(131_072)).write(&folder), None, 1);
    assert_eq!(large.map(|loaded| loaded.context).ok(), Some(4096), "the default context of the engine");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn header_with_random_bytes_loads_or_fails_without_panic(
        wrong in prop::collection::vec((0.0..1.0f64, any::<u8>()), 1..4), cut in prop::option::of(0.0..1.0f64),
    ) {
        let folder = folder();
        let path = Tiny::new().write(&folder);
        let mut bytes = fs::read(&path).expect("reads");
        // The header is half of a tiny model's file.
        let header = bytes.len() as f64 * 0.4;
        for (position, byte) in wrong {
            bytes[(position * header) as usize] = byte;
        }
        bytes.truncate(cut.map_or(bytes.len(), |cut| (bytes.len() as f64 * cut) as usize));
        File::create(&path).and_then(|mut file| file.write_all(&bytes)).expect("writes");
        if let Err(failure) = load_path(path, None, 1) {
            prop_assert!(
                matches!(failure.code, FailureCode::ModelInvalid | FailureCode::ModelUnsupported),
                "{}", failure
            );
        }
    }
}
