//! The declaration of a model: desired state, one key of the `models` bucket each.

use std::{borrow::Cow, fmt, path::PathBuf, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{Failure, FailureCode};

/// How a model is to be served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelSpec {
    /// Where its weights are.
    pub reference: ModelReference,
    /// What it does.
    #[serde(default)]
    pub kind: ModelKind,
    /// How many workers run it.
    #[serde(default)]
    pub replicas: Replicas,
    /// How many jobs each worker runs at a time; default 2.
    #[serde(default = "default_slots")]
    #[schemars(range(min = 1, max = 256))]
    pub slots: u32,
    /// Tokens of prompt and answer together; default: what the model was made for, as far as the engine can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16))]
    pub context: Option<u32>,
    /// How long a worker may be idle before it is stopped (`5m`, `90s`); default 5 min. Never below `replicas.min`.
    #[serde(default = "default_idle_timeout", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub idle_timeout: Duration,
}

fn default_slots() -> u32 {
    2
}

fn default_idle_timeout() -> Duration {
    Duration::from_secs(5 * 60)
}

impl ModelSpec {
    /// A declaration with every default.
    pub fn new(reference: ModelReference) -> Self {
        Self {
            reference,
            kind: ModelKind::default(),
            replicas: Replicas::default(),
            slots: default_slots(),
            context: None,
            idle_timeout: default_idle_timeout(),
        }
    }

    /// Reads and checks a declaration.
    ///
    /// # Errors
    /// `invalid-json`, or `invalid-request` with the path of the field that is wrong.
    pub fn from_json(body: &[u8]) -> Result<Self, Failure> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let spec: Self = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let code = if error.inner().is_data() { FailureCode::InvalidRequest } else { FailureCode::InvalidJson };
            Failure::new(code, format!("{}: {}", error.path(), error.inner()))
        })?;
        spec.check()?;
        Ok(spec)
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// `invalid-request`, naming the field, the value found and what is allowed.
    pub fn check(&self) -> Result<(), Failure> {
        let refuse = |message: String| Err(Failure::new(FailureCode::InvalidRequest, message));
        if self.replicas.max == 0 || self.replicas.min > self.replicas.max {
            let Replicas { min, max } = self.replicas;
            return refuse(format!(
                "replicas are {min}..{max}: expected a maximum of at least 1 that is not below the minimum"
            ));
        }
        if !(1..=256).contains(&self.slots) {
            return refuse(format!("slots is {}: expected 1 to 256", self.slots));
        }
        if self.context.is_some_and(|context| context < 16) {
            return refuse("context is below 16 tokens: leave it out for the model's own".to_owned());
        }
        Ok(())
    }
}

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// Continues text.
    #[default]
    Text,
}

/// Bounds on the number of workers of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replicas {
    /// Workers that run without demand; default 0.
    #[serde(default)]
    pub min: u32,
    /// The most workers; default 1.
    #[serde(default = "one")]
    pub max: u32,
}

fn one() -> u32 {
    1
}

impl Default for Replicas {
    fn default() -> Self {
        Self { min: 0, max: 1 }
    }
}

/// Where a model's weights are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelReference {
    /// A file on the hive's machine: `file:/models/smollm2.gguf`.
    File(PathBuf),
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
            Some(("mock", options)) => Ok(Self::Mock(options.to_owned())),
            _ => Err(format!("`{text}` is not a model reference: expected file:/path/to/model.gguf")),
        }
    }
}

impl fmt::Display for ModelReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
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
        json_schema!({ "type": "string", "pattern": "^(file:/|mock:)", "examples": ["file:/models/smollm2.gguf"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_needs_only_a_reference() {
        let spec = ModelSpec::from_json(br#"{"reference":"file:/m.gguf"}"#).expect("valid");
        assert_eq!(spec, ModelSpec::new(ModelReference::File("/m.gguf".into())));
        assert_eq!(spec.idle_timeout, Duration::from_secs(300));
    }

    #[test]
    fn a_bad_declaration_is_refused_by_field() {
        for (body, words) in [
            (r#"{}"#, "reference"),
            (r#"{"reference":"m.gguf"}"#, "expected file:/"),
            (r#"{"reference":"file:m.gguf"}"#, "not an absolute path"),
            (r#"{"reference":"mock:","slots":0}"#, "slots is 0"),
            (r#"{"reference":"mock:","replicas":{"min":3,"max":2}}"#, "replicas are 3..2"),
            (r#"{"reference":"mock:","context":1}"#, "context"),
            (r#"{"reference":"mock:","idle_timeout":5}"#, "idle_timeout"),
        ] {
            let failure = ModelSpec::from_json(body.as_bytes()).expect_err(body);
            assert!(failure.message.contains(words), "{body}: {failure}");
        }
    }

    #[test]
    fn a_declaration_is_written_as_people_write_it() {
        let spec = ModelSpec::new(ModelReference::Mock("interval=5ms".into()));
        let json = serde_json::to_string(&spec).expect("serializes");
        assert!(
            json.contains(r#""reference":"mock:interval=5ms""#) && json.contains(r#""idle_timeout":"5m""#),
            "{json}"
        );
        assert_eq!(ModelSpec::from_json(json.as_bytes()).expect("valid"), spec);
    }
}
