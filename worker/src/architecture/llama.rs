//! Llama 1 to 3, SmolLM and Mistral: the base of all other architectures.

use rbee_schema::Failure;
use rbee_transformer::{DecoderDescription, RopePairing};

use super::hyperparameters::Hyperparameters;

pub(super) fn describe(hyperparameters: &Hyperparameters<'_>) -> Result<DecoderDescription, Failure> {
    let mut description = hyperparameters.base_description(RopePairing::Interleaved)?;
    // Mistral's first models have a sliding window.
    let window = hyperparameters.optional_count("attention.sliding_window")?.filter(|window| *window > 0);
    description.layers.iter_mut().for_each(|layer| layer.window = window);
    Ok(description)
}
