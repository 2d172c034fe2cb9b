//! Files that mean harm: whatever a header says, reading it panics nowhere and takes no more memory than its file
//! justifies. `worker/fuzz/` looks for more of them.

mod check;
mod counting;
mod mutation;
mod reading;
#[allow(dead_code, reason = "it belongs to another program of tests, which uses all of it")]
#[path = "../model/tiny.rs"]
mod tiny;

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use candle_core::quantized::gguf_file::Value;
use rbee_worker::model::gguf::Gguf;

use crate::{check::check, counting::peak, mutation::Mutations, reading::read, tiny::Tiny};

#[test]
fn a_sound_file_is_read() {
    assert_eq!(read(&Tiny::new().bytes()), Ok(()));
}

#[test]
fn known_hostile_files_do_no_harm() {
    // Those that somebody thought of, and seeds and finds of the fuzzer.
    for folder in ["gguf", "found"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(folder);
        let mut count = 0;
        for entry in fs::read_dir(&folder).expect("it is part of the repository") {
            let path = entry.expect("an entry").path();
            check(&fs::read(&path).expect("reads"), &path.display().to_string());
            count += 1;
        }
        assert!(count > 10, "{count} files in {}", folder.display());
    }
}

#[test]
fn a_file_with_anything_changed_does_no_harm() {
    let sound = Tiny::new().bytes();
    for (number, file) in Mutations::new(&sound).take(3000).enumerate() {
        check(&file, &format!("mutation {number}"));
    }
}

#[test]
fn a_large_file_is_no_excuse_for_a_large_header() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("large.gguf");
    for (kind, count) in [(0u32, 3_000_000_000u64), (0, 4_194_305), (8, 300_000_000), (12, u64::MAX)] {
        let mut file = File::create(&path).expect("creates");
        // Version 3, no tensors, one key: a list.
        let beginning = [&b"GGUF\x03\0\0\0"[..], &[0; 8], b"\x01\0\0\0\0\0\0\0", b"\x01\0\0\0\0\0\0\0k\x09\0\0\0"];
        file.write_all(&beginning.concat()).expect("writes");
        file.write_all(&[&kind.to_le_bytes()[..], &count.to_le_bytes()].concat()).expect("writes");
        file.set_len(4 << 30).expect("a hole takes no room");
        let (refused, bytes) = peak(|| Gguf::open(&path).err());
        let failure = refused.expect("refused");
        assert!(failure.message.contains("elements of a list"), "{failure}");
        assert!(bytes < 100_000, "{bytes} bytes for {count} of {kind}");
    }
}

#[test]
fn a_header_that_is_wrong_is_told_by_what_is_wrong() {
    let bytes = Tiny::new().bytes();
    let with = |key: &str, value: Value| Tiny::new().with(key, value).bytes();
    let place = |text: &str| bytes.windows(text.len()).position(|found| found == text.as_bytes()).expect("in the file");
    let written = |place: usize, with: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[place..place + with.len()].copy_from_slice(with);
        bytes
    };
    // Behind a tensor's name: dimensions, sizes (columns first), type, offset.
    let norm = place("blk.0.ffn_norm.weight") + "blk.0.ffn_norm.weight".len();
    for (file, words) in [
        (with("general.alignment", Value::U32(0)), "general.alignment in its header is 0: expected a power of two"),
        (with("general.alignment", Value::U32(48)), "is 48: expected a power of two"),
        (with("general.alignment", Value::U32(1 << 31)), "expected a multiple of 2147483648"),
        (written(4, &[1, 0, 0, 0]), "version 1"),
        (written(4, &[0, 0, 0, 3]), "big-endian"),
        (written(8, &[0xFF; 8]), "18446744073709551615 tensors at byte 8: expected at most 65536"),
        (written(9, &[0x20]), "8203 tensors, each of 32 bytes or more at byte 16"),
        (written(16, &[0, 0, 1]), "65536 keys"),
        (written(place("general.architecture") - 1, &[0x80]), "a text of 9223372036854775828 bytes at byte"),
        (written(place("tokenizer.ggml.bos_token_id"), b"tokenizer.ggml.eos_token_id"), "eos_token_id twice"),
        (written(place("blk.0.attn_k.weight"), b"blk.0.attn_q.weight"), "tensor blk.0.attn_q.weight twice"),
        (written(norm, &[0]), "0 dimensions: expected 1 to 4"),
        (written(norm, &[5]), "5 dimensions"),
        (written(norm + 4, &[0]), "impossible shape [0]"),
        (written(norm + 4, &[0xFF; 8]), "impossible shape [18446744073709551615]"),
        (written(norm + 12, &[12]), "impossible shape [64] of Q4K"),
        (written(norm + 12, &[20]), "its weights are of the type IQ4_NL"),
        (written(norm + 12, &[200]), "of the type 200, which is not known"),
        (written(norm + 16, &[1]), "expected a multiple of 32"),
        (written(norm + 16, &[0; 8]), "overlap"),
        (written(norm + 23, &[0x7F]), "it is truncated: its tensors reach to byte 915"),
        (bytes[..bytes.len() - 100].to_vec(), "it is truncated"),
    ] {
        let failure = read(&file).expect_err(words);
        assert!(failure.message.contains(words), "expected `{words}`: {failure}");
    }
}
