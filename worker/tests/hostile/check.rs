//! The check of one file, shared with `worker/fuzz/`.

use std::panic::catch_unwind;

use rbee_schema::FailureCode;

use crate::{counting::peak, reading::read};

/// Most bytes of memory per byte of the file. A byte in a list becomes a value of 32 bytes, in a vector that grows by doubling
/// and is copied from its previous half.
const MEMORY_FOR_A_BYTE: usize = 100;
/// Memory in bytes for any file: tokenizer, template and the trial chat, however small the model is.
const MEMORY_FOR_ANY_FILE: usize = 8 << 20;

/// Reads a file. Panics if reading panics, takes too much memory, or fails with an unexpected code.
pub(crate) fn check(file: &[u8], what: &str) {
    let (result, bytes) = peak(|| catch_unwind(|| read(file)));
    let result = result.unwrap_or_else(|_| panic!("{what}: reading it panics"));
    let allowed = MEMORY_FOR_ANY_FILE + MEMORY_FOR_A_BYTE * file.len();
    assert!(bytes <= allowed, "{what}: {bytes} bytes of memory for a file of {}: {result:?}", file.len());
    if let Err(failure) = result {
        let codes = [FailureCode::ModelInvalid, FailureCode::ModelUnsupported];
        assert!(codes.contains(&failure.code) && failure.message.len() < 1000, "{what}: {failure}");
    }
}
