//! Llama 1 to 3, SmolLM and Mistral: what the others are compared with.

use rbee_schema::Failure;
use rbee_transformer::{Description, Pairs};

use super::header::Header;

pub(super) fn describe(header: &Header<'_>) -> Result<Description, Failure> {
    let mut description = header.plain(Pairs::Neighbours)?;
    // Mistral's first models see a part of the text.
    let window = header.optional_count("attention.sliding_window")?.filter(|window| *window > 0);
    description.layers.iter_mut().for_each(|layer| layer.window = window);
    Ok(description)
}
