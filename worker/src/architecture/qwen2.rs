//! Qwen 2 and 2.5: queries, keys and values have biases.

use rbee_schema::Failure;
use rbee_transformer::{DecoderDescription, RopePairing};

use super::hyperparameters::Hyperparameters;

pub(super) fn describe(hyperparameters: &Hyperparameters<'_>) -> Result<DecoderDescription, Failure> {
    Ok(DecoderDescription { has_attention_bias: true, ..hyperparameters.base_description(RopePairing::Halves)? })
}
