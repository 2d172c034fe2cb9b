//! Names: the variable tokens of subjects and keys, `[A-Za-z0-9_-]{1,64}`, checked here and nowhere else.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use uuid::Uuid;

/// Pattern of every name, as it is written into its JSON Schema.
const NAME_PATTERN: &str = "^[A-Za-z0-9_-]{1,64}$";

/// Text that is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{found}` is not a name: expected 1 to 64 characters of A-Z a-z 0-9 _ -")]
pub struct InvalidName {
    what: &'static str,
    found: String,
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident: $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Name as it is written in subjects and keys.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Nearest valid name of any text: invalid characters become `-`, and the text is cut to 64 characters.
            pub fn from_lossy(text: &str) -> Self {
                let name: String = text
                    .chars()
                    .take(64)
                    .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '-' })
                    .collect();
                Self(if name.is_empty() { "-".to_owned() } else { name })
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                if is_name(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidName { what: $what, found: text.chars().take(80).collect() })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": NAME_PATTERN })
            }
        }
    )*};
}

names! {
    /// Name of a model: the key of its declaration, and the token in the subjects of its jobs.
    ModelName: "model";
    /// Name of a hive, the agent of one machine.
    HiveName: "hive";
    /// Name of a machine, on which port numbers are unique. Several hives may share a machine.
    HostName: "host";
    /// Name of a worker over all its restarts. The epoch distinguishes its runs.
    WorkerName: "worker";
    /// Name of a queen process.
    QueenName: "queen";
    /// Name of the tenant that owns a job. Output and back-pressure are per tenant.
    Tenant: "tenant";
    /// Id of a job: its `Nats-Msg-Id`, without its tenant and a dot in front; without that header, its sequence in the stream.
    JobId: "job";
    /// Id of a batch.
    BatchId: "batch";
}

impl JobId {
    /// New id, sortable by time (UUIDv7). Clients choose the id, so that they can subscribe to the output before they publish.
    pub fn generate() -> Self {
        Self(Uuid::now_v7().to_string())
    }

    /// Id of a job that was published without one: its stream sequence, as the publish acknowledgement reports it.
    pub fn from_sequence(sequence: u64) -> Self {
        Self(sequence.to_string())
    }
}

impl BatchId {
    /// New id, sortable by time (UUIDv7).
    pub fn generate() -> Self {
        Self(Uuid::now_v7().to_string())
    }
}

impl WorkerName {
    /// New name for a worker of `model`: the name of the model, for people, and eight characters against collisions.
    pub fn generate(model: &ModelName) -> Self {
        let unique = Uuid::new_v7(uuid::Timestamp::now(uuid::NoContext)).simple().to_string();
        let stem: String = model.as_str().chars().take(55).collect();
        Self(format!("{stem}-{}", &unique[24..]))
    }
}

impl Tenant {
    /// Tenant of jobs that name none.
    pub const DEFAULT: &str = "default";
}

impl Default for Tenant {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

/// Class of a job. Workers take interactive jobs before batch jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JobClass {
    /// A person or program waits for the answer.
    #[default]
    Interactive,
    /// Nobody waits for the answer. Every interactive job goes first.
    Batch,
}

impl JobClass {
    /// Both classes, interactive first.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Batch];

    /// Class as it is written in subjects.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }
}

impl fmt::Display for JobClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Flow: the jobs of one class and one tenant of a model. Workers choose fairly between the flows of their model; within a
/// flow the oldest job goes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobFlow {
    /// Class of the jobs.
    pub class: JobClass,
    /// Tenant that owns the jobs.
    pub tenant: Tenant,
}

impl fmt::Display for JobFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} jobs of tenant {}", self.class, self.tenant)
    }
}

impl FromStr for JobClass {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::ALL
            .into_iter()
            .find(|class| class.as_str() == text)
            .ok_or_else(|| InvalidName { what: "class (interactive or batch)", found: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_has_1_to_64_word_characters() {
        for good in ["a", "smollm2", "A_b-9", &"x".repeat(64)] {
            assert!(good.parse::<ModelName>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "a.b", "a*", ">", "ä", &"x".repeat(65)] {
            let error = bad.parse::<ModelName>().expect_err(bad).to_string();
            assert!(error.contains("model") && error.contains("1 to 64"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn the_nearest_name_of_any_text_is_valid(text in ".*") {
            prop_assert!(HostName::from_lossy(&text).as_str().parse::<HostName>().is_ok());
        }
    }

    #[test]
    fn a_generated_worker_name_is_valid_and_unique() {
        let model: ModelName = "m".repeat(64).parse().expect("name");
        let (one, two) = (WorkerName::generate(&model), WorkerName::generate(&model));
        assert_ne!(one, two);
        assert!(one.as_str().parse::<WorkerName>().is_ok());
    }
}
