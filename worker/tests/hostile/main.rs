//! Hostile files: reading any header does not panic, and takes memory in proportion to the size of the file only.
//! `worker/fuzz/` searches for more such files.

mod check;
mod counting;
mod mutation;
mod reading;
#[allow(dead_code, reason = "shared with the tests in `model`, which use all of it")]
#[path = "../model/tiny.rs"]
mod tiny;

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use candle_core::quantized::gguf_file::Value;
use rbee_worker::model_file::gguf::Gguf;

use crate::{check::check, counting::peak, mutation::Mutations, reading::read, tiny::Tiny};

#[test]
fn valid_file_is_read() {
    assert_eq!(read(&Tiny::new().bytes()), Ok(()));
}

#[test]
fn known_hostile_files_are_harmless() {
    // Files written by hand, and inputs found by the fuzzer.
    for folder in ["gguf", "found"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(folder);
        let mut count = 0;
        for entry in fs::read_dir(&folder).expect("the corpus is part of the repository") {
            let path = entry.expect("an entry").path();
            check(&fs::read(&path).expect("reads"), &path.display().to_string());
            count += 1;
        }
        assert!(count > 10, "{count} files in {}", folder.display());
    }
}

#[test]
fn mutated_files_are_harmless() {
    let sound = Tiny::new().bytes();
    for (number, file) in Mutations::new(&sound).take(3000).enumerate() {
        check(&file, &format!("mutation {number}"));
    }
}

#[test]
fn large_file_does_not_justify_large_lists() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("large.gguf");
    for (kind, count) in [(0u32, 3_000_000_000u64), (0, 4_194_305), (8, 300_000_000), (12, u64::MAX)] {
        let mut file = File::create(&path).expect("creates");
        // Version 3, no tensors, one key: a list.
        let beginning = [&b"GGUF\x03\0\0\0"[..], &[0; 8], b"\x01\0\0\0\0\0\0\0", b"\x01\0\0\0\0\0\0\0k\x09\0\0\0"];
        file.write_all(&beginning.concat()).expect("writes");
        file.write_all(&[&kind.to_le_bytes()[..], &count.to_le_bytes()].concat()).expect("writes");
        file.set_len(4 << 30).expect("a sparse file");
        let (refused, bytes) = peak(|| Gguf::open(&path).err());
        let failure = refused.expect("refused");
        assert!(failure.message.contains("elements of a list"), "{failure}");
        assert!(bytes < 100_000, "{bytes} bytes for {count} of {kind}");
    }
}

#[test]
fn failure_names_the_defect_of_a_header() {
    let bytes = Tiny::new().bytes();
    let with = |key: &str, value: Value| Tiny::new().with(key, value).bytes();
    let position =
        |text: &str| bytes.windows(text.len()).position(|found| found == text.as_bytes()).expect("in the file");
    let patched = |position: usize, with: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[position..position + with.len()].copy_from_slice(with);
        bytes
    };
    // After the name of a tensor: number of dimensions, sizes (columns first), type, offset.
    let norm = position("blk.0.ffn_norm.weight") + "blk.0.ffn_norm.weight".len();
    for (file, words) in [
        (with("general.alignment", Value::U32(0)), "general.alignment in the header is 0: expected a power of two"),
        (with("general.alignment", Value::U32(48)), "is 48: expected a power of two"),
        (with("general.alignment", Value::U32(1 << 31)), "expected a multiple of 2147483648"),
        (patched(4, &[1, 0, 0, 0]), "version 1"),
        (patched(4, &[0, 0, 0, 3]), "big-endian"),
        (patched(8, &[0xFF; 8]), "18446744073709551615 tensors at byte 8: expected at most 65536"),
        (patched(9, &[0x20]), "8203 tensors, each of 32 bytes or more at byte 16"),
        (patched(16, &[0, 0, 1]), "65536 keys"),
        (patched(position("general.architecture") - 1, &[0x80]), "a text of 9223372036854775828 bytes at byte"),
        (patched(position("tokenizer.ggml.bos_token_id"), b"tokenizer.ggml.eos_token_id"), "eos_token_id twice"),
        (patched(position("blk.0.attn_k.weight"), b"blk.0.attn_q.weight"), "tensor blk.0.attn_q.weight twice"),
        (patched(norm, &[0]), "0 dimensions: expected 1 to 4"),
        (patched(norm, &[5]), "5 dimensions"),
        (patched(norm + 4, &[0]), "impossible shape [0]"),
        (patched(norm + 4, &[0xFF; 8]), "impossible shape [18446744073709551615]"),
        (patched(norm + 12, &[12]), "impossible shape [64] of Q4K"),
        (patched(norm + 12, &[20]), "the type IQ4_NL: choose"),
        (patched(norm + 12, &[200]), "the type 200, which the GGUF format does not define"),
        (patched(norm + 16, &[1]), "expected a multiple of 32"),
        (patched(norm + 16, &[0; 8]), "overlap"),
        (patched(norm + 23, &[0x7F]), "the file is truncated: its tensors reach to byte 915"),
        (bytes[..bytes.len() - 100].to_vec(), "the file is truncated"),
    ] {
        let failure = read(&file).expect_err(words);
        assert!(failure.message.contains(words), "expected `{words}`: {failure}");
    }
}
