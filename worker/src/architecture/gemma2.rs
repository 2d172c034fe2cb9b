//! Gemma 2: also norms after attention and feed-forward, capped scores, and a sliding window in every other layer.

use rbee_schema::Failure;
use rbee_transformer::{DecoderDescription, GateActivation, RopePairing};

use super::hyperparameters::Hyperparameters;

/// Layers of the 27B model, which scales scores by width / heads instead of by the head size.
const LAYERS_OF_27B: usize = 46;

pub(super) fn describe(hyperparameters: &Hyperparameters<'_>) -> Result<DecoderDescription, Failure> {
    let base = hyperparameters.base_description(RopePairing::Halves)?;
    let scaled_by = match base.layers.len() {
        LAYERS_OF_27B => base.width / base.heads.queries,
        _ => base.heads.size,
    };
    let mut description = DecoderDescription {
        activation: GateActivation::GeluTanh,
        embedding_scale: (base.width as f32).sqrt(),
        attention_scale: 1.0 / (scaled_by as f32).sqrt(),
        attention_cap: Some(hyperparameters.number("attn_logit_softcapping")?.unwrap_or(50.0)),
        logit_cap: Some(hyperparameters.number("final_logit_softcapping")?.unwrap_or(30.0)),
        has_post_norms: true,
        ..base
    };
    let window = hyperparameters.optional_count("attention.sliding_window")?.unwrap_or(4096).max(1);
    description.layers.iter_mut().step_by(2).for_each(|layer| layer.window = Some(window));
    Ok(description)
}
