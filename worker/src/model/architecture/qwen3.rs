//! Qwen 3: each head of queries and keys is normed, and may be larger than its share of the width.

use rbee_schema::Failure;
use rbee_transformer::{DecoderDescription, RopePairing};

use super::header::Header;

pub(super) fn describe(header: &Header<'_>) -> Result<DecoderDescription, Failure> {
    Ok(DecoderDescription { has_head_norms: true, ..header.plain(RopePairing::Halves)? })
}
