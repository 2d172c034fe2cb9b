//! References to model weights.

use std::{borrow::Cow, fmt, path::PathBuf, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::HubFile;

/// Location of a model's weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelReference {
    /// A file on the hive's machine: `file:/models/smollm2.gguf`.
    File(PathBuf),
    /// A file on the Hugging Face Hub: `hf:owner/repo/file.gguf`.
    Hub(HubFile),
    /// The test engine, which needs no weights: `mock:` and options such as `interval=5ms,load=200ms`.
    Mock(String),
}

impl FromStr for ModelReference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("file", path)) if path.starts_with('/') => Ok(Self::File(path.into())),
            Some(("file", path)) => Err(format!(
                "`file:{path}` is not an absolute path: hives may run in other folders, so write file:/..."
            )),
            Some(("hf", path)) => path.parse().map(Self::Hub),
            Some(("mock", options)) => Ok(Self::Mock(options.to_owned())),
            _ => Err(format!(
                "`{text}` is not a model reference: expected file:/path/to/model.gguf or hf:owner/repo[/file.gguf]"
            )),
        }
    }
}

impl fmt::Display for ModelReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Hub(file) => write!(f, "hf:{file}"),
            Self::Mock(options) => write!(f, "mock:{options}"),
        }
    }
}

impl Serialize for ModelReference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ModelReference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for ModelReference {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "ModelReference".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let examples = ["file:/models/smollm2.gguf", "hf:owner/repo/model.Q4_K_M.gguf"];
        json_schema!({ "type": "string", "pattern": "^(file:/|hf:|mock:)", "examples": examples })
    }
}

/// Parses a reference to a file on the Hugging Face Hub.
///
/// # Errors
/// The text is not a reference, or it refers to a file on a machine or to the test engine.
pub fn parse_hub_reference(text: &str) -> Result<ModelReference, String> {
    match text.parse() {
        Ok(reference @ ModelReference::Hub(_)) => Ok(reference),
        Ok(ModelReference::File(_) | ModelReference::Mock(_)) => {
            Err(format!("`{text}` is not on the hub: expected hf:owner/repo[@revision][/file.gguf]"))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_reference_is_written_as_it_was_read() {
        for text in ["hf:o/r", "hf:o/r@v1.0", "hf:o/r/m.gguf", "hf:o/r@main/quants/m.Q4_K_M.gguf"] {
            let reference: ModelReference = text.parse().expect(text);
            assert_eq!(reference.to_string(), text);
        }
        for wrong in ["hf:", "hf:o", "hf:/r", "hf:o/r@", "hf:o/r/", "hf:o/r/a/../b.gguf", "hf:o/r/m.bin", "hf:o /r"] {
            assert!(wrong.parse::<ModelReference>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_hub_reference_names_a_repository_of_the_hub() {
        assert!(parse_hub_reference("hf:o/r/m.gguf").is_ok());
        for wrong in ["file:/m.gguf", "mock:", "o/r", "hf:o"] {
            let error = parse_hub_reference(wrong).expect_err(wrong);
            assert!(error.contains("hf:owner/repo"), "{error}");
        }
    }
}
