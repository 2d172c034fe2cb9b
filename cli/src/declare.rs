//! Declarations of several models in one file, and what they would change.
//!
//! ```toml
//! [models.smollm2]
//! reference = "smollm2.gguf"    # beside this file; also file:/absolute/path or hf:owner/repo/file.gguf
//! replicas = { min = 1, max = 2 }
//! slots = 4
//! idle_timeout = "10m"
//! ```
//!
//! The keys are those of a declaration on the bus; `rbee schema model-spec` has all of them.

use std::{collections::BTreeMap, fmt, path::Path};

use rbee_schema::{ModelName, ModelSpec};
use serde::Serialize;
use serde_json::{Map, Value};

/// The models of a fleet, or of a file.
pub(crate) type Declarations = BTreeMap<ModelName, ModelSpec>;

/// What is to become of one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub(crate) enum Change {
    /// It is not declared yet.
    Declare { model: ModelName, spec: ModelSpec },
    /// It is declared otherwise.
    Alter { model: ModelName, spec: ModelSpec, fields: Vec<Field>, replaces_workers: bool },
    /// It is declared, and not in the file.
    Withdraw { model: ModelName },
}

/// One key of a declaration that changes; what is left out has its default.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Field {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Value>,
}

/// Reads a file of declarations. `folder` is where it stands: paths that are not absolute begin there.
///
/// # Errors
/// Every mistake in it, one on each line.
pub(crate) fn read(text: &str, folder: &Path) -> Result<Declarations, String> {
    let document: toml::Table =
        text.parse().map_err(|error: toml::de::Error| error.to_string().trim_end().to_owned())?;
    let (mut models, mut mistakes) = (Declarations::new(), Vec::new());
    for (key, value) in document {
        match (key.as_str(), value) {
            ("models", toml::Value::Table(tables)) => {
                for (name, table) in tables {
                    match one(&name, table, folder) {
                        Ok((name, spec)) => drop(models.insert(name, spec)),
                        Err(found) => mistakes.extend(found.into_iter().map(|why| format!("[models.{name}] {why}"))),
                    }
                }
            }
            ("models", _) => mistakes.push("`models` is no table: expected [models.NAME] for each model".to_owned()),
            (other, _) => mistakes.push(format!("`{other}` is not known: expected [models.NAME] for each model")),
        }
    }
    if mistakes.is_empty() && models.is_empty() {
        mistakes.push("no model is declared: expected [models.NAME] with a reference".to_owned());
    }
    if mistakes.is_empty() { Ok(models) } else { Err(mistakes.join("\n")) }
}

fn one(name: &str, mut value: toml::Value, folder: &Path) -> Result<(ModelName, ModelSpec), Vec<String>> {
    let name: ModelName = name.parse().map_err(|error| vec![format!("{error}")])?;
    if let Some(toml::Value::String(reference)) = value.get_mut("reference") {
        *reference = absolute(reference, folder);
    }
    let mut unknown = Vec::new();
    let spec = serde_ignored::deserialize(value, |path| unknown.push(path.to_string()))
        .map_err(|error: toml::de::Error| vec![error.message().to_owned()])
        .and_then(|spec: ModelSpec| spec.check().map(|()| spec).map_err(|failure| vec![failure.message]));
    let mut mistakes: Vec<String> = unknown.iter().map(|key| not_known(key)).collect();
    match spec {
        Ok(spec) if mistakes.is_empty() => Ok((name, spec)),
        Ok(_) => Err(mistakes),
        Err(wrong) => {
            mistakes.extend(wrong);
            Err(mistakes)
        }
    }
}

fn not_known(key: &str) -> String {
    let known = "reference, kind, replicas, slots, context, idle_timeout, pinned, limits, device, priority, labels, \
                 placement";
    format!("`{key}` is not known; known are {known}")
}

fn absolute(reference: &str, folder: &Path) -> String {
    let has_scheme = ["file:/", "hf:", "mock:"].iter().any(|scheme| reference.starts_with(scheme));
    if has_scheme {
        return reference.to_owned();
    }
    let path = reference.strip_prefix("file:").unwrap_or(reference);
    format!("file:{}", folder.join(path).display())
}

/// What has to change in a fleet for it to have `wanted`; with `prune` it is to have nothing else.
pub(crate) fn changes(there: &Declarations, wanted: &Declarations, prune: bool) -> Vec<Change> {
    let wanted_change = |(model, spec): (&ModelName, &ModelSpec)| match there.get(model) {
        None => Some(Change::Declare { model: model.clone(), spec: spec.clone() }),
        Some(before) if before == spec => None,
        Some(before) => Some(Change::Alter {
            model: model.clone(),
            spec: spec.clone(),
            fields: fields(before, spec),
            replaces_workers: !before.runs_like(spec),
        }),
    };
    let surplus = there.keys().filter(|model| prune && !wanted.contains_key(*model));
    let withdrawn = surplus.map(|model| Change::Withdraw { model: model.clone() });
    wanted.iter().filter_map(wanted_change).chain(withdrawn).collect()
}

fn fields(before: &ModelSpec, after: &ModelSpec) -> Vec<Field> {
    let (before, after) = (keys(before), keys(after));
    let differs = |key: &&String| before.get(*key) != after.get(*key);
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let keys = after.keys().chain(gone).filter(differs);
    keys.map(|key| Field { key: key.clone(), before: before.get(key).cloned(), after: after.get(key).cloned() })
        .collect()
}

fn keys(spec: &ModelSpec) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(keys)) => keys,
        // A declaration is an object, and JSON can hold each of them.
        _ => Map::new(),
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declare { model, spec } => write!(f, "+ {model}: {}", spec.reference),
            Self::Alter { model, fields, replaces_workers, .. } => {
                write!(f, "~ {model}: {}", listed(fields))?;
                f.write_str(if *replaces_workers {
                    "; its workers are replaced, each new one ready before an old one goes"
                } else {
                    "; its workers stay"
                })
            }
            Self::Withdraw { model } => write!(f, "- {model}: its workers finish their jobs and stop"),
        }
    }
}

/// How one declaration differs from another.
pub(crate) fn difference(before: &ModelSpec, after: &ModelSpec) -> String {
    listed(&fields(before, after))
}

fn listed(fields: &[Field]) -> String {
    let word =
        |Field { key, before, after }: &Field| format!("{key} {} -> {}", shown(before.as_ref()), shown(after.as_ref()));
    fields.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None => "default".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(keys)) => {
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key} {}", shown(Some(value)))).collect();
            format!("({})", keys.join(" "))
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_here(text: &str) -> Result<Declarations, String> {
        read(text, Path::new("/models"))
    }

    #[test]
    fn a_file_declares_models_with_the_keys_of_the_bus_and_paths_beside_it() {
        let text = "[models.a]\nreference = \"a.gguf\"\nslots = 4\nidle_timeout = \"10m\"\nreplicas = { min = 1, max = 2 }\n\
                    [models.b]\nreference = \"hf:o/r/b.gguf\"\n[models.b.labels]\nzone = \"attic\"\n";
        let models = read_here(text).expect("valid");
        let names: Vec<&str> = models.keys().map(ModelName::as_str).collect();
        assert_eq!(names, ["a", "b"]);
        let a = models.values().next().expect("a");
        assert_eq!((a.reference.to_string().as_str(), a.slots, a.replicas.max), ("file:/models/a.gguf", 4, 2));
    }

    #[test]
    fn every_mistake_is_told_with_where_it_is() {
        for (text, words) in [
            ("", "no model is declared"),
            ("models = 3", "expected [models.NAME]"),
            ("[model.a]\nreference = \"a.gguf\"", "`model` is not known"),
            ("[models.a]", "[models.a] missing field `reference`"),
            ("[models.a]\nreference = \"a.gguf\"\nslot = 3", "[models.a] `slot` is not known; known are reference"),
            ("[models.a]\nreference = \"a.gguf\"\nslots = 0", "[models.a] slots is 0: expected 1 to 256"),
            ("[models.a]\nreference = \"a.gguf\"\nlimits = { ram = 3 }", "[models.a] `limits.ram` is not known"),
            ("[models.\"a b\"]\nreference = \"a.gguf\"", "[models.a b]"),
            ("[models.a", "TOML parse error at line 1"),
        ] {
            let error = read_here(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
        let both = read_here("[models.a]\nreference = \"a.gguf\"\nslots = 0\n[models.b]\n").expect_err("two mistakes");
        assert_eq!(both.lines().count(), 2, "{both}");
    }

    #[test]
    fn what_would_change_is_said_in_a_line_for_each_model() {
        let there = read_here(
            "[models.same]\nreference = \"mock:\"\n[models.altered]\nreference = \"mock:\"\n\
             [models.grown]\nreference = \"mock:\"\n[models.surplus]\nreference = \"mock:\"",
        )
        .expect("valid");
        let wanted = read_here(
            "[models.same]\nreference = \"mock:\"\n[models.altered]\nreference = \"mock:\"\nslots = 4\n\
             [models.grown]\nreference = \"mock:\"\nreplicas = { max = 3 }\npriority = 1\n\
             [models.new]\nreference = \"mock:\"",
        )
        .expect("valid");
        let said = |prune| changes(&there, &wanted, prune).iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected = [
            "~ altered: slots 2 -> 4; its workers are replaced, each new one ready before an old one goes",
            "~ grown: replicas (min 0 max 1) -> (min 0 max 3), priority default -> 1; its workers stay",
            "+ new: mock:",
        ];
        assert_eq!(said(false), expected);
        assert_eq!(said(true).last().map(String::as_str), Some("- surplus: its workers finish their jobs and stop"));
        assert_eq!(changes(&wanted, &wanted, true), []);
    }
}
