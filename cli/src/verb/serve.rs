//! `rbee serve`: a model is declared.

use std::{path::Path, time::Duration};

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use rbee_nats::Registry;
use rbee_schema::{
    ByteSize, Device, Limits, ModelKind, ModelName, ModelReference, ModelSpec, PlacementStrategy, Replicas,
};

use crate::{
    Setting,
    fleet::{label, labels},
    outcome::Outcome,
    show,
};

/// Options of `rbee serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// The name by which jobs ask for it.
    name: ModelName,
    /// Where its weights are: a path on the hive's machine, of a .gguf file or of a folder with safetensors, or hf:owner/repo[@revision][/file.gguf] on the hub.
    #[arg(value_parser = reference, value_name = "REFERENCE")]
    reference: ModelReference,
    /// What it does: text, or embeddings.
    #[arg(long, default_value_t, value_name = "KIND")]
    kind: ModelKind,
    /// How many workers run it, as MIN..MAX or one number for both.
    #[arg(long, default_value = "0..1", value_parser = replicas, value_name = "RANGE")]
    replicas: Replicas,
    /// How many jobs each worker runs at a time.
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// Tokens of prompt and answer together, or of one text whose vector is wanted; default: what the model and the engine can.
    #[arg(long, value_name = "TOKENS")]
    context: Option<u32>,
    /// How long a worker may be idle before it is stopped, such as 90s or 5m.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    idle_timeout: Option<Duration>,
    /// Keep a worker that has started, however long it is idle.
    #[arg(long)]
    pin: bool,
    /// The memory that each worker may use, such as 4GiB; one that needs more is ended.
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// The cores that each worker may use, such as 1.5.
    #[arg(long, value_parser = cpu_millis, value_name = "N")]
    cpus: Option<u32>,
    /// The files and sockets that each worker may have open.
    #[arg(long, value_name = "N")]
    open_files: Option<u32>,
    /// The device that it must run on; default: what the hive's workers have.
    #[arg(long, value_parser = device())]
    device: Option<Device>,
    /// Who gets room first where there is not enough for all: the higher number.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_name = "N")]
    priority: i32,
    /// Only hives with these labels run it, as NAME=VALUE with commas.
    #[arg(long, value_delimiter = ',', value_parser = label, value_name = "NAME=VALUE")]
    labels: Vec<(String, String)>,
    /// Put its workers on as few hives as have room, instead of on different ones.
    #[arg(long)]
    pack: bool,
}

impl Serve {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let spec = ModelSpec::new(self.reference);
        let spec = ModelSpec {
            kind: self.kind,
            replicas: self.replicas,
            slots: self.slots.unwrap_or(spec.slots),
            context: self.context,
            idle_timeout: self.idle_timeout.unwrap_or(spec.idle_timeout),
            pinned: self.pin,
            limits: Limits { memory: self.memory, cpu_millis: self.cpus, open_files: self.open_files },
            device: self.device,
            priority: self.priority,
            labels: labels(&self.labels)?,
            placement: if self.pack { PlacementStrategy::Pack } else { PlacementStrategy::Spread },
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
    if text.starts_with("mock:") || text.starts_with("hf:") {
        return text.parse();
    }
    let path = text.strip_prefix("file:").unwrap_or(text);
    let path = std::path::absolute(Path::new(path)).map_err(|error| error.to_string())?;
    Ok(ModelReference::File(path))
}

/// Reads `1.5` as 1500 thousandths of a core.
fn cpu_millis(text: &str) -> Result<u32, String> {
    let millis = text.parse::<f64>().ok().map(|cores| (cores * 1000.0).round());
    match millis {
        // The cast is exact: the number is whole and in range.
        Some(millis) if (10.0..=f64::from(u32::MAX)).contains(&millis) => Ok(millis as u32),
        _ => Err(format!("`{text}` is no number of cores: expected 0.01 or more, such as 1.5")),
    }
}

pub(crate) fn device() -> impl TypedValueParser<Value = Device> {
    PossibleValuesParser::new(["cpu", "cuda", "metal"]).map(|name| match name.as_str() {
        "cuda" => Device::Cuda,
        "metal" => Device::Metal,
        _ => Device::Cpu,
    })
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
    fn cores_are_a_decimal_number() {
        for (text, millis) in [("1", 1000), ("1.5", 1500), ("0.01", 10), ("64", 64_000), ("0.333", 333)] {
            assert_eq!(cpu_millis(text), Ok(millis), "{text}");
        }
        for wrong in ["0", "0.001", "-1", "NaN", "inf", "1e99", "two", ""] {
            assert!(cpu_millis(wrong).is_err_and(|error| error.contains("such as 1.5")), "{wrong}");
        }
    }

    #[test]
    fn a_path_becomes_an_absolute_reference() {
        let ModelReference::File(path) = reference("models/m.gguf").expect("a reference") else { panic!("a file") };
        assert!(path.is_absolute() && path.ends_with("models/m.gguf"), "{}", path.display());
    }

    #[test]
    fn a_file_on_the_hub_is_a_reference_and_a_malformed_one_is_no_path() {
        assert_eq!(reference("hf:a/b/c.gguf").map(|reference| reference.to_string()), Ok("hf:a/b/c.gguf".to_owned()));
        assert!(reference("hf:a").is_err());
    }
}
