//! Phi 3 and 3.5: fused tensors, and separate rotary factors for short and long contexts.

use rbee_schema::Failure;
use rbee_transformer::{DecoderDescription, RopePairing, RopeScaling};

use super::hyperparameters::Hyperparameters;

pub(super) fn describe(hyperparameters: &Hyperparameters<'_>) -> Result<DecoderDescription, Failure> {
    let mut description =
        DecoderDescription { is_fused: true, ..hyperparameters.base_description(RopePairing::Halves)? };
    let window = hyperparameters.optional_count("attention.sliding_window")?.filter(|window| *window > 0);
    description.layers.iter_mut().for_each(|layer| layer.window = window);
    let first = hyperparameters.optional_count("rope.scaling.original_context_length")?.unwrap_or(description.context);
    // One set of factors for the whole text: its length is not known when its first token is computed.
    let is_long = description.context.min(hyperparameters.context as usize) > first;
    let name = if is_long { "rope_factors_long.weight" } else { "rope_factors_short.weight" };
    let rope = &mut description.ropes[0];
    if let Some(factors) = hyperparameters.floats(name, rope.dimensions / 2)? {
        let magnitude = hyperparameters.number("rope.scaling.attn_factor")?.unwrap_or(1.0);
        rope.scaling = RopeScaling::Factors { factors, magnitude };
    }
    Ok(description)
}
