//! The declaration of a model: desired state, one key of the `models` bucket each.

use std::{borrow::Cow, collections::BTreeMap, fmt, path::PathBuf, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{ByteSize, Failure, FailureCode};

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
    /// Whether a worker of it stays however long it is idle, once one has started; default no.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pinned: bool,
    /// What each worker may use; default: what its hive allows.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// The device that it must run on; default: what the hive's workers have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// Who gets room first where there is not enough for all: the higher number; default 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// Labels that a hive must have to run it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// How its workers are placed; default: spread.
    #[serde(default, skip_serializing_if = "PlacementStrategy::is_default")]
    pub placement: PlacementStrategy,
}

/// What a hive is called by, and what a declaration may ask for: `zone = "attic"`.
pub type Labels = BTreeMap<String, String>;

/// The most labels that a hive or a declaration may have.
const MAX_LABELS: usize = 32;

/// The longest name or value of a label, in bytes.
const MAX_LABEL: usize = 64;

/// Checks the labels of a hive or of a declaration.
///
/// # Errors
/// What is wrong, in words.
pub fn check_labels(labels: &Labels) -> Result<(), String> {
    let is_good = |text: &str| {
        (1..=MAX_LABEL).contains(&text.len()) && !text.contains(|c: char| c.is_control() || matches!(c, '=' | ','))
    };
    match labels.iter().find(|(name, value)| !is_good(name) || !is_good(value)) {
        Some((name, value)) => Err(format!(
            "label `{name}={value}` is none: expected NAME=VALUE, each of 1 to {MAX_LABEL} bytes without `=` and `,`"
        )),
        None if labels.len() > MAX_LABELS => Err(format!("{} labels are too many: at most {MAX_LABELS}", labels.len())),
        None => Ok(()),
    }
}

/// How the workers of a model are placed on hives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PlacementStrategy {
    /// On different hives as far as there are: the loss of one costs least.
    #[default]
    Spread,
    /// On as few hives as have room: the others stay free for what needs a whole one.
    Pack,
}

impl PlacementStrategy {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

fn is_false(value: &bool) -> bool {
    !value
}

/// What a worker may use. What is left out is not limited here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Memory; a worker that needs more is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Processor time, in thousandths of a core: 1500 is one core and a half.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10))]
    pub cpu_millis: Option<u32>,
    /// Files and sockets that it may have open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 64))]
    pub open_files: Option<u32>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// These limits; where one is left out, that of `defaults`.
    pub fn or(self, defaults: Self) -> Self {
        Self {
            memory: self.memory.or(defaults.memory),
            cpu_millis: self.cpu_millis.or(defaults.cpu_millis),
            open_files: self.open_files.or(defaults.open_files),
        }
    }
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// The processor.
    Cpu,
    /// An NVIDIA graphics card.
    Cuda,
    /// An Apple graphics processor.
    Metal,
}

impl Device {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        }
    }
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
            pinned: false,
            limits: Limits::default(),
            device: None,
            priority: 0,
            labels: Labels::new(),
            placement: PlacementStrategy::default(),
        }
    }

    /// Whether a worker that was started with `other` serves as this one says: what its process is told is the same.
    pub fn runs_like(&self, other: &Self) -> bool {
        self.told() == other.told()
    }

    /// What a worker's process is told of it.
    fn told(&self) -> (&ModelReference, ModelKind, u32, Option<u32>, Limits, Option<Device>) {
        (&self.reference, self.kind, self.slots, self.context, self.limits, self.device)
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
        if self.limits.memory.is_some_and(|memory| memory.bytes() < MIN_MEMORY) {
            return refuse(format!("limits.memory is below {}: no worker can start with less", ByteSize(MIN_MEMORY)));
        }
        if self.limits.cpu_millis.is_some_and(|millis| millis < 10) {
            return refuse("limits.cpu_millis is below 10: expected thousandths of a core, 1000 for one".to_owned());
        }
        if self.limits.open_files.is_some_and(|files| files < 64) {
            return refuse("limits.open_files is below 64: no worker can start with fewer".to_owned());
        }
        check_labels(&self.labels).or_else(refuse)
    }
}

/// The least memory that a limit may leave a worker.
const MIN_MEMORY: u64 = 32 << 20;

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// Continues text.
    #[default]
    Text,
    /// Turns texts into vectors.
    Embeddings,
}

impl ModelKind {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Embeddings => "embeddings",
        }
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ModelKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "embeddings" => Ok(Self::Embeddings),
            other => Err(format!("`{other}` is no kind of model: expected text or embeddings")),
        }
    }
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
    /// A file of a repository on the hub: `hf:owner/repo/file.gguf`.
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

/// A file of a repository on the Hugging Face Hub, as `owner/repo[@revision][/path/to/file.gguf]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HubFile {
    /// `owner/name`.
    pub repository: String,
    /// A branch, tag or commit; default `main`.
    pub revision: Option<String>,
    /// The file's path in the repository; default: the one GGUF file that is there.
    pub path: Option<String>,
}

impl FromStr for HubFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            Err(format!("`hf:{text}` is not a file on the hub: {why}; expected hf:owner/repo[@revision][/file.gguf]"))
        };
        let is_part = |part: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !part.is_empty() && part.len() <= 96 && part.chars().all(allowed) && !part.starts_with('.')
        };
        let mut parts = text.splitn(3, '/');
        let (Some(owner), Some(name)) = (parts.next(), parts.next()) else { return wrong("a repository has an owner") };
        let (name, revision) = match name.split_once('@') {
            Some((name, revision)) => (name, Some(revision.to_owned())),
            None => (name, None),
        };
        let path = parts.next().map(str::to_owned);
        if !is_part(owner) || !is_part(name) {
            return wrong("owner and repository are made of A-Z a-z 0-9 - _ .");
        }
        if revision.as_deref().is_some_and(|revision| !is_part(revision)) {
            return wrong("a revision is made of A-Z a-z 0-9 - _ .");
        }
        if path.as_deref().is_some_and(|path| !path.split('/').all(is_part) || !path.ends_with(".gguf")) {
            return wrong("a file's path is made of A-Z a-z 0-9 - _ . / and ends with .gguf");
        }
        Ok(Self { repository: format!("{owner}/{name}"), revision, path })
    }
}

impl fmt::Display for HubFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if let Some(path) = &self.path {
            write!(f, "/{path}")?;
        }
        Ok(())
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
            (r#"{"reference":"mock:","limits":{"memory":"1MiB"}}"#, "below 32 MiB"),
            (r#"{"reference":"mock:","limits":{"memory":"much"}}"#, "limits.memory"),
            (r#"{"reference":"hf:repo"}"#, "has an owner"),
            (r#"{"reference":"hf:o/r/../../etc/passwd"}"#, "ends with .gguf"),
        ] {
            let failure = ModelSpec::from_json(body.as_bytes()).expect_err(body);
            assert!(failure.message.contains(words), "{body}: {failure}");
        }
    }

    #[test]
    fn a_file_on_the_hub_is_read_and_written_alike() {
        for text in ["hf:o/r", "hf:o/r@v1.0", "hf:o/r/m.gguf", "hf:o/r@main/quants/m.Q4_K_M.gguf"] {
            let reference: ModelReference = text.parse().expect(text);
            assert_eq!(reference.to_string(), text);
        }
        for wrong in ["hf:", "hf:o", "hf:/r", "hf:o/r@", "hf:o/r/", "hf:o/r/a/../b.gguf", "hf:o/r/m.bin", "hf:o /r"] {
            assert!(wrong.parse::<ModelReference>().is_err(), "{wrong}");
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
