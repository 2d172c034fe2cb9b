//! Qwen 2 and 2.5: queries, keys and values have biases.

use rbee_schema::Failure;
use rbee_transformer::{Description, Pairs};

use super::header::Header;

pub(super) fn describe(header: &Header<'_>) -> Result<Description, Failure> {
    Ok(Description { has_attention_bias: true, ..header.plain(Pairs::Halves)? })
}
