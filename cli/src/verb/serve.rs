//! `rbee serve`: a model is declared.

use std::{path::Path, time::Duration};

use clap::Args;
use rbee_nats::Registry;
use rbee_schema::{ModelName, ModelReference, ModelSpec, Replicas};

use crate::{Setting, outcome::Outcome, show};

/// Options of `rbee serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// The name by which jobs ask for it.
    name: ModelName,
    /// Where its weights are: a path, or file:/absolute/path/to/model.gguf.
    #[arg(value_parser = reference, value_name = "REFERENCE")]
    reference: ModelReference,
    /// How many workers run it, as MIN..MAX or one number for both.
    #[arg(long, default_value = "0..1", value_parser = replicas, value_name = "RANGE")]
    replicas: Replicas,
    /// How many jobs each worker runs at a time.
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// Tokens of prompt and answer together; default: what the model and the engine can.
    #[arg(long, value_name = "TOKENS")]
    context: Option<u32>,
    /// How long a worker may be idle before it is stopped, such as 90s or 5m.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    idle_timeout: Option<Duration>,
}

impl Serve {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let spec = ModelSpec::new(self.reference);
        let spec = ModelSpec {
            replicas: self.replicas,
            slots: self.slots.unwrap_or(spec.slots),
            context: self.context,
            idle_timeout: self.idle_timeout.unwrap_or(spec.idle_timeout),
            ..spec
        };
        spec.check().map_err(Outcome::usage)?;
        let bus = setting.bus("cli/serve").await?;
        Registry::models(&bus).put(self.name.as_str(), &spec).await?;
        if setting.json {
            show::json(&spec);
        } else {
            println!("{} is declared: {}", self.name, spec.reference);
        }
        Ok(())
    }
}

/// Reads a reference; a path is made absolute, because hives run in other folders.
fn reference(text: &str) -> Result<ModelReference, String> {
    if text.starts_with("mock:") {
        return text.parse();
    }
    if text.starts_with("hf:") {
        return Err("hf: references are not supported yet: download the file and name its path".to_owned());
    }
    let path = text.strip_prefix("file:").unwrap_or(text);
    let path = std::path::absolute(Path::new(path)).map_err(|error| error.to_string())?;
    Ok(ModelReference::File(path))
}

/// Reads `2` or `0..3`.
fn replicas(text: &str) -> Result<Replicas, String> {
    let number = |text: &str| text.parse::<u32>().ok();
    let (min, max) = match text.split_once("..") {
        Some((min, max)) => (number(min), number(max)),
        None => (number(text), number(text)),
    };
    match (min, max) {
        (Some(min), Some(max)) if max >= 1 && min <= max => Ok(Replicas { min, max }),
        _ => Err(format!("`{text}` is no number of workers: expected MIN..MAX with MAX of at least 1, such as 0..2")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_a_range_or_one_number() {
        assert_eq!(replicas("0..2"), Ok(Replicas { min: 0, max: 2 }));
        assert_eq!(replicas("3"), Ok(Replicas { min: 3, max: 3 }));
        for wrong in ["0", "2..1", "..", "x", "-1"] {
            assert!(replicas(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_becomes_an_absolute_reference() {
        let ModelReference::File(path) = reference("models/m.gguf").expect("a reference") else { panic!("a file") };
        assert!(path.is_absolute() && path.ends_with("models/m.gguf"), "{}", path.display());
        assert!(reference("hf:a/b").is_err());
    }
}
