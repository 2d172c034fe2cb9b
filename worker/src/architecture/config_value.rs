//! Reads single values of a `config.json`.

use rbee_schema::Failure;
use serde_json::Value;

use crate::model_file::error::{invalid, printable};

/// Count that may be missing.
pub(super) fn optional_count(config: &Value, key: &str) -> Result<Option<u32>, Failure> {
    match &config[key] {
        Value::Null => Ok(None),
        value => match value.as_u64().and_then(|count| u32::try_from(count).ok()) {
            Some(count) => Ok(Some(count)),
            None => Err(wrong_type(key, value, "a count")),
        },
    }
}

/// Number that may be missing.
pub(super) fn optional_number(config: &Value, key: &str) -> Result<Option<f32>, Failure> {
    match &config[key] {
        Value::Null => Ok(None),
        value => match value.as_f64().map(|number| number as f32) {
            Some(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(wrong_type(key, value, "a number")),
        },
    }
}

/// Failure for a value of the wrong type.
pub(super) fn wrong_type(key: &str, value: &Value, expected: &str) -> Failure {
    invalid(format!("{key} in config.json is {}: expected {expected}", printable(&value.to_string())))
}
