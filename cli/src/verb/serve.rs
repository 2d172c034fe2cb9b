//! `rbee serve`: declares a model.

use std::time::Duration;

use clap::Args;
use rbee_nats::Registry;
use rbee_schema::{
    ByteSize, Device, Limits, ModelKind, ModelName, ModelReference, ModelSpec, PlacementStrategy, Replicas,
    parse_cores, parse_label,
};

use crate::{
    Context,
    error::CliError,
    output::{self, say},
    reference::parse_reference,
    roles::device_parser,
};

/// Options of `rbee serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Name of the model. Jobs ask for it by this name.
    name: ModelName,
    /// Weights of the model: the path of a .gguf file or a safetensors folder on the hive's machine, or
    /// hf:owner/repo[@revision][/file.gguf] on the hub.
    #[arg(value_parser = parse_reference, value_name = "REFERENCE")]
    reference: ModelReference,
    /// Task of the model: text or embeddings.
    #[arg(long, default_value_t, value_name = "KIND")]
    kind: ModelKind,
    /// Number of workers, as MIN..MAX or one number for both.
    #[arg(long, default_value = "0..1", value_name = "RANGE")]
    replicas: Replicas,
    /// Number of jobs that each worker runs at once [default: 2].
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// Context length in tokens: prompt and answer together, or one text to embed [default: that of the model].
    #[arg(long, value_name = "TOKENS")]
    context: Option<u32>,
    /// Stop a worker above the minimum after this long without a job, such as 90s [default: 5m].
    #[arg(long, value_parser = rbee_schema::parse_duration, value_name = "TIME")]
    idle_timeout: Option<Duration>,
    /// Keep a started worker running while it is idle.
    #[arg(long)]
    pin: bool,
    /// Memory limit of each worker, such as 4GiB. A worker that exceeds it is killed.
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// Processor limit of each worker in cores, such as 1.5.
    #[arg(long, value_parser = parse_cores, value_name = "N")]
    cpus: Option<u32>,
    /// Limit of open files and sockets of each worker.
    #[arg(long, value_name = "N")]
    open_files: Option<u32>,
    /// Run only on this device [default: any device of the hive].
    #[arg(long, value_parser = device_parser())]
    device: Option<Device>,
    /// Priority when memory is short: models with a higher number are placed first.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_name = "N")]
    priority: i32,
    /// Run only on hives that have these labels (NAME=VALUE,...).
    #[arg(long, value_delimiter = ',', value_parser = parse_label, value_name = "NAME=VALUE")]
    labels: Vec<(String, String)>,
    /// Place workers on as few hives as possible instead of spreading them.
    #[arg(long)]
    pack: bool,
}

impl Serve {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let (name, spec) = self.spec();
        spec.check().map_err(CliError::usage)?;
        let bus = context.bus("cli/serve").await?;
        Registry::models(&bus).put(name.as_str(), &spec).await?;
        if context.json {
            output::json(&spec);
        } else {
            say!("{name} is declared: {}", spec.reference);
        }
        Ok(())
    }

    fn spec(self) -> (ModelName, ModelSpec) {
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
            labels: self.labels.into_iter().collect(),
            placement: if self.pack { PlacementStrategy::Pack } else { PlacementStrategy::Spread },
            ..spec
        };
        (self.name, spec)
    }
}
