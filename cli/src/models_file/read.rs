//! From the text of a models file to the declarations in it.

use std::{collections::BTreeMap, path::Path};

use rbee_schema::{ModelName, ModelSpec};

use crate::reference::resolve;

/// Declarations by the name of the model.
pub(crate) type ModelSpecs = BTreeMap<ModelName, ModelSpec>;

/// Reads a models file. Relative paths in it start at `folder`, the folder of the file.
///
/// # Errors
/// Every mistake in the file, one on each line.
pub(crate) fn read(text: &str, folder: &Path) -> Result<ModelSpecs, String> {
    let document: toml::Table =
        text.parse().map_err(|error: toml::de::Error| error.to_string().trim_end().to_owned())?;
    let (mut models, mut mistakes) = (ModelSpecs::new(), Vec::new());
    for (key, value) in document {
        match (key.as_str(), value) {
            ("models", toml::Value::Table(tables)) => {
                for (name, table) in tables {
                    match model(&name, table, folder) {
                        Ok((name, spec)) => drop(models.insert(name, spec)),
                        Err(found) => mistakes.extend(found.into_iter().map(|why| format!("[models.{name}] {why}"))),
                    }
                }
            }
            ("models", _) => mistakes.push("`models` is not a table: expected [models.NAME] for each model".to_owned()),
            (other, _) => mistakes.push(format!("unknown key `{other}`: expected [models.NAME] for each model")),
        }
    }
    if mistakes.is_empty() && models.is_empty() {
        mistakes.push("no model is declared: expected [models.NAME] with a reference".to_owned());
    }
    if mistakes.is_empty() { Ok(models) } else { Err(mistakes.join("\n")) }
}

fn model(name: &str, mut value: toml::Value, folder: &Path) -> Result<(ModelName, ModelSpec), Vec<String>> {
    let name: ModelName = name.parse().map_err(|error| vec![format!("{error}")])?;
    if let Some(toml::Value::String(reference)) = value.get_mut("reference") {
        *reference = resolve(reference, folder).map_err(|error| vec![error])?.to_string();
    }
    let mut unknown = Vec::new();
    let spec = serde_ignored::deserialize(value, |path| unknown.push(path.to_string()))
        .map_err(|error: toml::de::Error| vec![error.message().to_owned()])
        .and_then(|spec: ModelSpec| spec.check().map(|()| spec).map_err(|failure| vec![failure.message]));
    let mut mistakes: Vec<String> = unknown.iter().map(|key| unknown_key(key)).collect();
    match spec {
        Ok(spec) if mistakes.is_empty() => Ok((name, spec)),
        Ok(_) => Err(mistakes),
        Err(invalid) => {
            mistakes.extend(invalid);
            Err(mistakes)
        }
    }
}

fn unknown_key(key: &str) -> String {
    let known = "reference, kind, replicas, slots, context, idle_timeout, pinned, limits, device, priority, labels, \
                 placement";
    format!("unknown key `{key}`; the keys are {known}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_in_models(text: &str) -> Result<ModelSpecs, String> {
        read(text, Path::new("/models"))
    }

    #[test]
    fn a_file_declares_models_and_relative_paths_start_beside_it() {
        let text = "[models.a]\nreference = \"a.gguf\"\nslots = 4\nidle_timeout = \"10m\"\nreplicas = { min = 1, max = 2 }\n\
                    [models.b]\nreference = \"hf:o/r/b.gguf\"\n[models.b.labels]\nzone = \"attic\"\n";
        let models = read_in_models(text).expect("valid");
        let names: Vec<&str> = models.keys().map(ModelName::as_str).collect();
        assert_eq!(names, ["a", "b"]);
        let a = models.values().next().expect("a");
        assert_eq!((a.reference.to_string().as_str(), a.slots, a.replicas.max), ("file:/models/a.gguf", 4, 2));
        assert_eq!(a.idle_timeout, std::time::Duration::from_secs(600));
        let b = models.values().last().expect("b");
        assert_eq!(b.reference.to_string(), "hf:o/r/b.gguf");
        assert_eq!(b.labels.get("zone").map(String::as_str), Some("attic"));
    }

    #[test]
    fn every_mistake_is_reported_with_its_place() {
        for (text, part) in [
            ("", "no model is declared"),
            ("models = 3", "expected [models.NAME]"),
            ("[model.a]\nreference = \"a.gguf\"", "unknown key `model`"),
            ("[models.a]", "[models.a] missing field `reference`"),
            ("[models.a]\nreference = \"a.gguf\"\nslot = 3", "[models.a] unknown key `slot`; the keys are reference"),
            ("[models.a]\nreference = \"a.gguf\"\nslots = 0", "[models.a] slots is 0: expected 1 to 256"),
            ("[models.a]\nreference = \"a.gguf\"\nlimits = { ram = 3 }", "[models.a] unknown key `limits.ram`"),
            ("[models.\"a b\"]\nreference = \"a.gguf\"", "[models.a b]"),
            ("[models.a", "TOML parse error at line 1"),
        ] {
            let error = read_in_models(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        let both =
            read_in_models("[models.a]\nreference = \"a.gguf\"\nslots = 0\n[models.b]\n").expect_err("two mistakes");
        assert_eq!(both.lines().count(), 2, "{both}");
    }
}
