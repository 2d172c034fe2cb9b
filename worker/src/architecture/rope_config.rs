//! Rotary position settings of a `config.json`.

use std::f64::consts::PI;

use rbee_kernels::MAX_HEAD_SIZE;
use rbee_schema::Failure;
use serde_json::Value;

use super::config_value::{optional_count, optional_number, wrong_type};
use crate::model_file::error::{invalid, printable, unsupported};

/// Rotary positions of a model.
#[derive(Debug)]
pub(super) struct RopeConfig {
    /// Base of the frequencies.
    pub(super) base: Option<f32>,
    /// Stretching of positions beyond the context of training.
    pub(super) scaling: RopeScaling,
}

/// Scaling of rotary frequencies.
#[derive(Debug)]
pub(super) enum RopeScaling {
    /// Frequencies are not changed.
    None,
    /// All frequencies are divided by one factor.
    Linear(Option<f32>),
    /// The frequency of each pair of numbers is divided by its own factor.
    Llama3(Vec<f32>),
}

impl RopeConfig {
    /// Reads the settings.
    ///
    /// # Errors
    /// `model-unsupported` for another kind of scaling; `model-invalid` for a value of the wrong type.
    pub(super) fn read(config: &Value) -> Result<Self, Failure> {
        // Since 2025 all position settings are in one object.
        let (rope, scaling) = match &config["rope_parameters"] {
            parameters @ Value::Object(_) => (parameters, parameters),
            _ => (config, &config["rope_scaling"]),
        };
        let base = optional_number(rope, "rope_theta")?;
        let scaling = match scaling["rope_type"].as_str().or(scaling["type"].as_str()) {
            None | Some("default") => RopeScaling::None,
            Some("linear") => RopeScaling::Linear(optional_number(scaling, "factor")?),
            Some("llama3") => RopeScaling::Llama3(llama_3_factors(config, rope, scaling)?),
            Some(other) => {
                let other = printable(other);
                return Err(unsupported(format!(
                    "rotary positions are scaled by {other:?}: supported in folders are default, linear, llama3"
                )));
            }
        };
        Ok(Self { base, scaling })
    }
}

/// Rotary factors of Llama 3: long wavelengths are stretched, short ones are not, and those between in proportion to their
/// length. Source: `_compute_llama3_parameters` in transformers.
fn llama_3_factors(config: &Value, rope: &Value, scaling: &Value) -> Result<Vec<f32>, Failure> {
    let required = |object: &Value, key: &str| match optional_number(object, key)? {
        Some(number) if number > 0.0 => Ok(f64::from(number)),
        _ => Err(wrong_type(key, &object[key], "a number above 0")),
    };
    let factor = required(scaling, "factor")?;
    let (low, high) = (required(scaling, "low_freq_factor")?, required(scaling, "high_freq_factor")?);
    let context = required(scaling, "original_max_position_embeddings")?;
    let base = optional_number(rope, "rope_theta")?.map_or(10_000.0, f64::from);
    let head = head_size(config)?;
    if head > MAX_HEAD_SIZE as u32 || low >= high {
        return Err(invalid(format!("rope_scaling has the factors {low} and {high} for heads of {head} numbers")));
    }
    let factor_of_pair = |pair: u32| {
        let wave = 2.0 * PI * base.powf(f64::from(2 * pair) / f64::from(head));
        if wave < context / high {
            return 1.0;
        }
        if wave > context / low {
            return factor as f32;
        }
        let part = (context / wave - low) / (high - low);
        (1.0 / ((1.0 - part) / factor + part)) as f32
    };
    Ok((0..head / 2).map(factor_of_pair).collect())
}

/// Size of a head; 0 if the file does not say.
fn head_size(config: &Value) -> Result<u32, Failure> {
    if let Some(size) = optional_count(config, "head_dim")? {
        return Ok(size);
    }
    let (width, heads) = (optional_count(config, "hidden_size")?, optional_count(config, "num_attention_heads")?);
    Ok(width.unwrap_or(0).checked_div(heads.unwrap_or(0)).unwrap_or(0))
}
