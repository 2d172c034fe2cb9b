//! Phi 3 and 3.5: fused tensors, and factors of positions for short and for long texts.

use rbee_schema::Failure;
use rbee_transformer::{DecoderDescription, RopePairing, RopeScaling};

use super::header::Header;

pub(super) fn describe(header: &Header<'_>) -> Result<DecoderDescription, Failure> {
    let mut description = DecoderDescription { is_fused: true, ..header.plain(RopePairing::Halves)? };
    let window = header.optional_count("attention.sliding_window")?.filter(|window| *window > 0);
    description.layers.iter_mut().for_each(|layer| layer.window = window);
    let first = header.optional_count("rope.scaling.original_context_length")?.unwrap_or(description.context);
    // One set for the whole text: its length is not known when its first token is read.
    let is_long = description.context.min(header.context as usize) > first;
    let name = if is_long { "rope_factors_long.weight" } else { "rope_factors_short.weight" };
    let rope = &mut description.ropes[0];
    if let Some(factors) = header.floats(name, rope.dimensions / 2)? {
        let magnitude = header.number("rope.scaling.attn_factor")?.unwrap_or(1.0);
        rope.scaling = RopeScaling::Factors { factors, magnitude };
    }
    Ok(description)
}
