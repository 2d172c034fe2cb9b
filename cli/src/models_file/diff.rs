//! Differences between the models that a fleet has and those that a file declares.

use std::fmt;

use rbee_schema::{ModelName, ModelSpec};
use serde::Serialize;
use serde_json::{Map, Value};

use super::read::ModelSpecs;

/// A change of one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub(crate) enum ModelChange {
    /// The model is new.
    Declare { model: ModelName, spec: ModelSpec },
    /// The model is declared with other fields.
    Alter { model: ModelName, spec: ModelSpec, fields: Vec<FieldChange>, replaces_workers: bool },
    /// The model is declared, and the file does not have it.
    Withdraw { model: ModelName },
}

/// A field of a declaration that changes. A missing value means the default.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct FieldChange {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Value>,
}

/// Changes that turn the models of a fleet into the `desired` ones. Surplus models are withdrawn only with `prune`.
pub(crate) fn diff(current: &ModelSpecs, desired: &ModelSpecs, prune: bool) -> Vec<ModelChange> {
    let change = |(model, spec): (&ModelName, &ModelSpec)| match current.get(model) {
        None => Some(ModelChange::Declare { model: model.clone(), spec: spec.clone() }),
        Some(before) if before == spec => None,
        Some(before) => Some(ModelChange::Alter {
            model: model.clone(),
            spec: spec.clone(),
            fields: changed_fields(before, spec),
            replaces_workers: !before.runs_like(spec),
        }),
    };
    let surplus = current.keys().filter(|model| prune && !desired.contains_key(*model));
    let withdrawn = surplus.map(|model| ModelChange::Withdraw { model: model.clone() });
    desired.iter().filter_map(change).chain(withdrawn).collect()
}

fn changed_fields(before: &ModelSpec, after: &ModelSpec) -> Vec<FieldChange> {
    let (before, after) = (fields(before), fields(after));
    let differs = |key: &&String| before.get(*key) != after.get(*key);
    let removed = before.keys().filter(|key| !after.contains_key(*key));
    let keys = after.keys().chain(removed).filter(differs);
    keys.map(|key| FieldChange { key: key.clone(), before: before.get(key).cloned(), after: after.get(key).cloned() })
        .collect()
}

fn fields(spec: &ModelSpec) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(fields)) => fields,
        // A declaration is an object, and JSON can represent each of them.
        _ => Map::new(),
    }
}

impl fmt::Display for ModelChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declare { model, spec } => write!(f, "+ {model}: {}", spec.reference),
            Self::Alter { model, fields, replaces_workers, .. } => {
                write!(f, "~ {model}: {}", list(fields))?;
                f.write_str(if *replaces_workers {
                    "; its workers are replaced one by one, each after its successor is ready"
                } else {
                    "; its workers keep running"
                })
            }
            Self::Withdraw { model } => write!(f, "- {model}: its workers finish their jobs and stop"),
        }
    }
}

/// The fields in which two declarations differ, such as `slots 2 -> 4`.
pub(crate) fn describe_difference(before: &ModelSpec, after: &ModelSpec) -> String {
    list(&changed_fields(before, after))
}

fn list(fields: &[FieldChange]) -> String {
    let field = |FieldChange { key, before, after }: &FieldChange| {
        format!("{key} {} -> {}", text(before.as_ref()), text(after.as_ref()))
    };
    fields.iter().map(field).collect::<Vec<_>>().join(", ")
}

fn text(value: Option<&Value>) -> String {
    match value {
        None => "default".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(fields)) => {
            let fields: Vec<String> =
                fields.iter().map(|(key, value)| format!("{key} {}", text(Some(value)))).collect();
            format!("({})", fields.join(" "))
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::models_file::read::read;

    #[test]
    fn each_changed_model_gets_one_line() {
        let specs = |text: &str| read(text, Path::new("/models")).expect("valid");
        let current = specs(
            "[models.same]\nreference = \"mock:\"\n[models.altered]\nreference = \"mock:\"\n\
             [models.grown]\nreference = \"mock:\"\n[models.surplus]\nreference = \"mock:\"",
        );
        let desired = specs(
            "[models.same]\nreference = \"mock:\"\n[models.altered]\nreference = \"mock:\"\nslots = 4\n\
             [models.grown]\nreference = \"mock:\"\nreplicas = { max = 3 }\npriority = 1\n\
             [models.new]\nreference = \"mock:\"",
        );
        let lines = |prune| diff(&current, &desired, prune).iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected = [
            "~ altered: slots 2 -> 4; its workers are replaced one by one, each after its successor is ready",
            "~ grown: replicas (min 0 max 1) -> (min 0 max 3), priority default -> 1; its workers keep running",
            "+ new: mock:",
        ];
        assert_eq!(lines(false), expected);
        let withdrawn = "- surplus: its workers finish their jobs and stop".to_owned();
        assert_eq!(lines(true), [&expected.map(str::to_owned)[..], &[withdrawn]].concat());
        assert_eq!(diff(&desired, &desired, true), []);
    }
}
