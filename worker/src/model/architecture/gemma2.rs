//! Gemma 2: norms after attention and feed-forward too, capped scores, and every other layer sees a part of the text.

use rbee_schema::Failure;
use rbee_transformer::{DecoderDescription, GateActivation, RopePairing};

use super::header::Header;

/// Layers of the 27B model, whose scores are scaled by its width instead of by its heads' size.
const LAYERS_OF_27B: usize = 46;

pub(super) fn describe(header: &Header<'_>) -> Result<DecoderDescription, Failure> {
    let plain = header.plain(RopePairing::Halves)?;
    let scaled_by = match plain.layers.len() {
        LAYERS_OF_27B => plain.width / plain.heads.queries,
        _ => plain.heads.size,
    };
    let mut description = DecoderDescription {
        activation: GateActivation::GeluTanh,
        embedding_scale: (plain.width as f32).sqrt(),
        attention_scale: 1.0 / (scaled_by as f32).sqrt(),
        attention_cap: Some(header.number("attn_logit_softcapping")?.unwrap_or(50.0)),
        logit_cap: Some(header.number("final_logit_softcapping")?.unwrap_or(30.0)),
        has_post_norms: true,
        ..plain
    };
    let window = header.optional_count("attention.sliding_window")?.unwrap_or(4096).max(1);
    description.layers.iter_mut().step_by(2).for_each(|layer| layer.window = Some(window));
    Ok(description)
}
