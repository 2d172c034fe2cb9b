//! Qwen 2 and 2.5: queries, keys and values have biases.

use rbee_schema::Failure;
use rbee_transformer::{DecoderDescription, RopePairing};

use super::header::Header;

pub(super) fn describe(header: &Header<'_>) -> Result<DecoderDescription, Failure> {
    Ok(DecoderDescription { has_attention_bias: true, ..header.plain(RopePairing::Halves)? })
}
