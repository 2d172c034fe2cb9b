//! The declaration itself.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Device, Labels, Limits, ModelKind, ModelReference, PlacementStrategy, Replicas, check_labels};
use crate::{Failure, FailureCode};

/// Largest number of slots of a worker.
const MAX_SLOTS: u32 = 256;

/// Smallest context length in tokens.
const MIN_CONTEXT: u32 = 16;

/// Declaration of a model: its weights and the way in which it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelSpec {
    /// Location of the weights: `file:/path/to/model.gguf` or `hf:owner/repo[@revision][/file.gguf]`.
    pub reference: ModelReference,
    /// Kind of the model; default `text`.
    #[serde(default)]
    pub kind: ModelKind,
    /// Number of workers; default 0 to 1.
    #[serde(default)]
    pub replicas: Replicas,
    /// Slots: number of jobs that each worker runs at once; default 2.
    #[serde(default = "default_slots")]
    #[schemars(range(min = 1, max = 256))]
    pub slots: u32,
    /// Context length in tokens, of prompt and answer together. Default: the length that the model was trained for, as far
    /// as the engine supports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16))]
    pub context: Option<u32>,
    /// Idle time after which a worker is stopped (`5m`, `90s`); default 5 min. At least `replicas.min` workers stay.
    #[serde(default = "default_idle_timeout", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub idle_timeout: Duration,
    /// Keeps one worker running however long it is idle, once one has started; default false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pinned: bool,
    /// Resource limits of each worker. Default: the limits that its hive sets.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// Device that the model requires. Default: the default device of the hive's workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// Priority when resources are short: models with higher numbers are placed first; default 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// Labels that a hive must have to run the model; default none.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Placement of the workers on hives; default `spread`.
    #[serde(default, skip_serializing_if = "PlacementStrategy::is_default")]
    pub placement: PlacementStrategy,
}

fn default_slots() -> u32 {
    2
}

fn default_idle_timeout() -> Duration {
    Duration::from_secs(5 * 60)
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

fn is_false(value: &bool) -> bool {
    !value
}

impl ModelSpec {
    /// Declaration of a model with every default.
    pub fn new(reference: ModelReference) -> Self {
        Self {
            reference,
            kind: ModelKind::default(),
            replicas: Replicas::default(),
            slots: default_slots(),
            context: None,
            idle_timeout: default_idle_timeout(),
            pinned: false,
            limits: Limits::default(),
            device: None,
            priority: 0,
            labels: Labels::new(),
            placement: PlacementStrategy::default(),
        }
    }

    /// True if a worker that was started with `other` serves this declaration too: its process would get the same
    /// arguments.
    pub fn runs_like(&self, other: &Self) -> bool {
        self.process_settings() == other.process_settings()
    }

    /// Fields that a worker's process is started with.
    fn process_settings(&self) -> (&ModelReference, ModelKind, u32, Option<u32>, Limits, Option<Device>) {
        (&self.reference, self.kind, self.slots, self.context, self.limits, self.device)
    }

    /// Parses and checks a declaration.
    ///
    /// # Errors
    /// `invalid-json`, or `invalid-request` with the path of the invalid field.
    pub fn from_json(body: &[u8]) -> Result<Self, Failure> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let spec: Self = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let code = if error.inner().is_data() { FailureCode::InvalidRequest } else { FailureCode::InvalidJson };
            Failure::new(code, format!("{}: {}", error.path(), error.inner()))
        })?;
        spec.check()?;
        Ok(spec)
    }

    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// `invalid-request`, with the field, the value found and the values allowed.
    pub fn check(&self) -> Result<(), Failure> {
        let invalid = |message: String| Failure::new(FailureCode::InvalidRequest, message);
        if self.replicas.max == 0 || self.replicas.min > self.replicas.max {
            let Replicas { min, max } = self.replicas;
            return Err(invalid(format!(
                "replicas are {min}..{max}: expected a maximum of at least 1 that is not below the minimum"
            )));
        }
        if !(1..=MAX_SLOTS).contains(&self.slots) {
            return Err(invalid(format!("slots is {}: expected 1 to {MAX_SLOTS}", self.slots)));
        }
        if self.context.is_some_and(|context| context < MIN_CONTEXT) {
            let message = format!("context is below {MIN_CONTEXT} tokens: leave it out to use the model's own");
            return Err(invalid(message));
        }
        self.limits.check().map_err(invalid)?;
        check_labels(&self.labels).map_err(invalid)
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
    fn an_invalid_declaration_is_refused_by_field() {
        for (body, words) in [
            (r#"{}"#, "reference"),
            (r#"{"reference":"m.gguf"}"#, "expected file:/"),
            (r#"{"reference":"file:m.gguf"}"#, "not an absolute path"),
            (r#"{"reference":"mock:","slots":0}"#, "slots is 0"),
            (r#"{"reference":"mock:","replicas":{"min":3,"max":2}}"#, "replicas are 3..2"),
            (r#"{"reference":"mock:","context":1}"#, "context"),
            (r#"{"reference":"mock:","idle_timeout":5}"#, "idle_timeout"),
            (r#"{"reference":"mock:","limits":{"memory":"1MiB"}}"#, "below 32 MiB"),
            (r#"{"reference":"mock:","limits":{"memory":"much"}}"#, "limits.memory"),
            (r#"{"reference":"mock:","limits":{"cpu_millis":9}}"#, "limits.cpu_millis is below 10"),
            (r#"{"reference":"mock:","limits":{"open_files":63}}"#, "limits.open_files is below 64"),
            (r#"{"reference":"mock:","labels":{"a=b":"c"}}"#, "label `a=b=c`"),
            (r#"{"reference":"hf:repo"}"#, "has an owner"),
            (r#"{"reference":"hf:o/r/../../etc/passwd"}"#, "ends with .gguf"),
        ] {
            let failure = ModelSpec::from_json(body.as_bytes()).expect_err(body);
            assert!(failure.message.contains(words), "{body}: {failure}");
        }
    }

    #[test]
    fn a_declaration_is_written_in_readable_units() {
        let spec = ModelSpec::new(ModelReference::Mock("interval=5ms".into()));
        let json = serde_json::to_string(&spec).expect("serializes");
        assert!(
            json.contains(r#""reference":"mock:interval=5ms""#) && json.contains(r#""idle_timeout":"5m""#),
            "{json}"
        );
        assert_eq!(ModelSpec::from_json(json.as_bytes()).expect("valid"), spec);
    }

    #[test]
    fn replicas_and_placement_do_not_change_the_process() {
        let spec = ModelSpec::new(ModelReference::Mock(String::new()));
        let placed = ModelSpec { placement: PlacementStrategy::Pack, pinned: true, ..spec.clone() };
        assert!(spec.runs_like(&placed));
        assert!(!spec.runs_like(&ModelSpec { slots: 3, ..spec.clone() }));
    }
}
