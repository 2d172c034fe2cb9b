//! SmolLM 3: every fourth layer has no rotary positions.

use rbee_schema::Failure;
use rbee_transformer::{DecoderDescription, RopePairing};

use super::hyperparameters::Hyperparameters;

/// One layer of each group of this size, the last one, has no positions.
const PERIOD: usize = 4;

pub(super) fn describe(hyperparameters: &Hyperparameters<'_>) -> Result<DecoderDescription, Failure> {
    let mut description = hyperparameters.base_description(RopePairing::Interleaved)?;
    description.layers.iter_mut().skip(PERIOD - 1).step_by(PERIOD).for_each(|layer| layer.rope = None);
    Ok(description)
}
