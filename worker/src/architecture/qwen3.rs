//! Qwen 3: query and key heads are normalized, and a head may be larger than width / heads.

use rbee_schema::Failure;
use rbee_transformer::{DecoderDescription, RopePairing};

use super::hyperparameters::Hyperparameters;

pub(super) fn describe(hyperparameters: &Hyperparameters<'_>) -> Result<DecoderDescription, Failure> {
    Ok(DecoderDescription { has_head_norms: true, ..hyperparameters.base_description(RopePairing::Halves)? })
}
