//! Qwen 3: each head of queries and keys is normed, and may be larger than its share of the width.

use rbee_schema::Failure;
use rbee_transformer::{Description, Pairs};

use super::header::Header;

pub(super) fn describe(header: &Header<'_>) -> Result<Description, Failure> {
    Ok(Description { has_head_norms: true, ..header.plain(Pairs::Halves)? })
}
