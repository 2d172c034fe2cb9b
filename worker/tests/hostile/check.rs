//! What no file may do, for these tests and for `worker/fuzz/`.

use std::panic::catch_unwind;

use rbee_schema::FailureCode;

use crate::{counting::peak, reading::read};

/// Bytes of memory for each byte of a file: a byte in a list becomes a value of 32, in a vector that has grown by
/// doubling, beside the half that it has grown out of.
const MEMORY_FOR_A_BYTE: usize = 100;
/// What tokenizer and template take however small the model is; their rendering of one message is bounded too.
const MEMORY_FOR_ANY_FILE: usize = 8 << 20;

/// Reads it, and holds what that took against its size.
pub(crate) fn check(file: &[u8], what: &str) {
    let (result, bytes) = peak(|| catch_unwind(|| read(file)));
    let result = result.unwrap_or_else(|_| panic!("{what}: reading it panics"));
    let allowed = MEMORY_FOR_ANY_FILE + MEMORY_FOR_A_BYTE * file.len();
    assert!(bytes <= allowed, "{what}: {bytes} bytes of memory for {} of the file: {result:?}", file.len());
    if let Err(failure) = result {
        let codes = [FailureCode::ModelInvalid, FailureCode::ModelUnsupported];
        assert!(codes.contains(&failure.code) && failure.message.len() < 1000, "{what}: {failure}");
    }
}
