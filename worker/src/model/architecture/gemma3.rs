//! Gemma 3: five of six layers see a part of the text, with positions of their own; heads of queries and keys are normed.

use rbee_schema::Failure;
use rbee_transformer::{DecoderDescription, GateActivation, Layer, Rope, RopeScaling};

use super::header::Header;

/// Layers of the 27B model, whose scores are scaled by its width instead of by its heads' size.
const LAYERS_OF_27B: usize = 62;
/// The last layer of so many sees everything.
const PERIOD: usize = 6;
/// Of the positions of layers with a window.
const WINDOW_BASE: f32 = 10_000.0;

pub(super) fn describe(header: &Header<'_>) -> Result<DecoderDescription, Failure> {
    let plain = header.plain(rbee_transformer::RopePairing::Halves)?;
    let scaled_by = match plain.layers.len() {
        LAYERS_OF_27B => plain.width / plain.heads.queries,
        _ => plain.heads.size,
    };
    let whole = plain.ropes[0].clone();
    let part = Rope { base: WINDOW_BASE, scaling: RopeScaling::None, ..whole };
    let window = header.optional_count("attention.sliding_window")?.unwrap_or(1024).max(1);
    let layer = |index: usize| match index % PERIOD {
        last if last == PERIOD - 1 => Layer { rope: Some(0), window: None },
        _ => Layer { rope: Some(1), window: Some(window) },
    };
    Ok(DecoderDescription {
        activation: GateActivation::GeluTanh,
        embedding_scale: (plain.width as f32).sqrt(),
        attention_scale: 1.0 / (scaled_by as f32).sqrt(),
        logit_cap: header.number("final_logit_softcapping")?,
        has_head_norms: true,
        has_post_norms: true,
        layers: (0..plain.layers.len()).map(layer).collect(),
        ropes: vec![plain.ropes[0].clone(), part],
        ..plain
    })
}
