//! Llama 1 to 3, SmolLM and Mistral: what the others are compared with.

use rbee_schema::Failure;
use rbee_transformer::{DecoderDescription, RopePairing};

use super::header::Header;

pub(super) fn describe(header: &Header<'_>) -> Result<DecoderDescription, Failure> {
    let mut description = header.plain(RopePairing::Interleaved)?;
    // Mistral's first models see a part of the text.
    let window = header.optional_count("attention.sliding_window")?.filter(|window| *window > 0);
    description.layers.iter_mut().for_each(|layer| layer.window = window);
    Ok(description)
}
