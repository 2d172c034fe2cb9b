//! Reads how an encoder's output is pooled into one vector: `modules.json` and `1_Pooling/config.json`.
//!
//! Format: <https://sbert.net/docs/package_reference/sentence_transformer/models.html>.

use std::path::Path;

use rbee_schema::Failure;
use rbee_transformer::Pooling;
use serde_json::Value;

use crate::model_file::{
    error::{invalid, printable, unsupported},
    json_file::read_json,
};

/// Pooling of the output, and true if vectors are normalized to length 1. Default: the mean, not normalized.
pub(super) fn read_pooling(folder: &Path) -> Result<(Pooling, bool), Failure> {
    let modules = read_json(folder, "modules.json")?;
    if modules.is_null() {
        return Ok((Pooling::Mean, false));
    }
    let modules = modules.as_array().ok_or_else(|| invalid("modules.json is not a list"))?;
    let (mut pooling, mut is_normalized) = (Pooling::Mean, false);
    for module in modules {
        let name = module["type"].as_str().and_then(|name| name.rsplit('.').next()).unwrap_or_default();
        match name {
            "Transformer" => {}
            "Pooling" => pooling = pooling_mode(folder, module["path"].as_str().unwrap_or_default())?,
            "Normalize" => is_normalized = true,
            other => {
                let other = printable(other);
                return Err(unsupported(format!(
                    "modules.json has a {other:?}: supported are Transformer, Pooling, Normalize"
                )));
            }
        }
    }
    Ok((pooling, is_normalized))
}

/// Reads the configuration of a Pooling module, which is in its own folder.
fn pooling_mode(folder: &Path, path: &str) -> Result<Pooling, Failure> {
    if path.is_empty() || path.contains(['/', '\\']) || path == ".." {
        return Err(invalid(format!(
            "modules.json has the path {:?} for its Pooling: expected the name of a folder",
            printable(path)
        )));
    }
    let config = read_json(&folder.join(path), "config.json")?;
    // Newer versions name the mode; older versions have one boolean per mode.
    let named = match &config["pooling_mode"] {
        Value::String(name) => vec![name.clone()],
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => {
            let flags = config.as_object().into_iter().flatten().filter(|(_, value)| **value == true);
            flags.filter_map(|(key, _)| key.strip_prefix("pooling_mode_")).map(str::to_owned).collect()
        }
    };
    match named.iter().map(String::as_str).collect::<Vec<&str>>().as_slice() {
        [] | ["mean" | "mean_tokens"] => Ok(Pooling::Mean),
        ["cls" | "cls_token"] => Ok(Pooling::First),
        others => {
            Err(unsupported(format!("the pooling is {}: supported are mean and cls", printable(&others.join(" and ")))))
        }
    }
}
