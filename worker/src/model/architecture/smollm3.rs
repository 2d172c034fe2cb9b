//! SmolLM 3: every fourth layer has no positions.

use rbee_schema::Failure;
use rbee_transformer::{DecoderDescription, RopePairing};

use super::header::Header;

/// The last layer of so many is without positions.
const PERIOD: usize = 4;

pub(super) fn describe(header: &Header<'_>) -> Result<DecoderDescription, Failure> {
    let mut description = header.plain(RopePairing::Interleaved)?;
    description.layers.iter_mut().skip(PERIOD - 1).step_by(PERIOD).for_each(|layer| layer.rope = None);
    Ok(description)
}
