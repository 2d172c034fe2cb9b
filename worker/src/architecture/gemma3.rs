//! Gemma 3: five of six layers have a sliding window and their own rotary base; query and key heads are normalized.

use rbee_schema::Failure;
use rbee_transformer::{DecoderDescription, GateActivation, Layer, Rope, RopeScaling};

use super::hyperparameters::Hyperparameters;

/// Layers of the 27B model, which scales scores by width / heads instead of by the head size.
const LAYERS_OF_27B: usize = 62;
/// One layer of each group of this size, the last one, sees the whole text.
const PERIOD: usize = 6;
/// Rotary base of layers with a sliding window.
const WINDOW_BASE: f32 = 10_000.0;

pub(super) fn describe(hyperparameters: &Hyperparameters<'_>) -> Result<DecoderDescription, Failure> {
    let base = hyperparameters.base_description(rbee_transformer::RopePairing::Halves)?;
    let scaled_by = match base.layers.len() {
        LAYERS_OF_27B => base.width / base.heads.queries,
        _ => base.heads.size,
    };
    let whole = base.ropes[0].clone();
    let part = Rope { base: WINDOW_BASE, scaling: RopeScaling::None, ..whole };
    let window = hyperparameters.optional_count("attention.sliding_window")?.unwrap_or(1024).max(1);
    let layer = |index: usize| match index % PERIOD {
        last if last == PERIOD - 1 => Layer { rope: Some(0), window: None },
        _ => Layer { rope: Some(1), window: Some(window) },
    };
    Ok(DecoderDescription {
        activation: GateActivation::GeluTanh,
        embedding_scale: (base.width as f32).sqrt(),
        attention_scale: 1.0 / (scaled_by as f32).sqrt(),
        logit_cap: hyperparameters.number("final_logit_softcapping")?,
        has_head_norms: true,
        has_post_norms: true,
        layers: (0..base.layers.len()).map(layer).collect(),
        ropes: vec![base.ropes[0].clone(), part],
        ..base
    })
}
