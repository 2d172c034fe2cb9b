//! Qwen 2 and 2.5: queries, keys and values have biases.

use rbee_decoder::{Description, Pairs};
use rbee_schema::Failure;

use super::header::Header;

pub(super) fn describe(header: &Header<'_>) -> Result<Description, Failure> {
    Ok(Description { has_attention_bias: true, ..header.plain(Pairs::Halves)? })
}
