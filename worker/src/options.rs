//! The command line of `rbee-worker`.

use clap::Parser;
use rbee_nats::{Connection, ConnectionSettings, Namespace, worker_connection};
use rbee_schema::{ByteSize, HiveName, ModelKind, ModelName, ModelReference, WorkerName, WorkerSettings};

use crate::{
    contract::{LoadOptions, TemplateLimits},
    device::ComputeDevice,
    huge_pages::HugePages,
    report::Identity,
};

/// Run one model and answer its jobs. Started by a hive.
#[derive(Debug, Clone, Parser)]
#[command(name = "rbee-worker", version)]
pub struct Options {
    /// Name of the hive that started this worker.
    #[arg(long)]
    pub(crate) hive: HiveName,
    /// Name of this worker.
    #[arg(long)]
    pub(crate) worker: WorkerName,
    /// Name of the model. The worker answers the jobs of this model.
    #[arg(long)]
    pub(crate) model: ModelName,
    /// Run number of this worker, counted up by its hive at every start.
    #[arg(long, default_value_t = 1)]
    pub(crate) epoch: u64,
    /// Number of jobs to run at the same time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) slots: u32,
    /// Purpose of the model: text or embeddings.
    #[arg(long, default_value_t)]
    pub(crate) kind: ModelKind,
    /// Context size in tokens: prompt and answer together, or one input of an embeddings request.
    #[arg(long)]
    pub(crate) context: Option<u32>,
    /// Number of compute threads; default: one for each CPU that the process may use.
    #[arg(long, env = "RBEE_THREADS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) threads: Option<u32>,
    /// Memory for the KV cache, such as 2GiB; default: a full context for each slot, and one more for the prompt cache.
    #[arg(long, env = "RBEE_CACHE_MEMORY", value_name = "SIZE")]
    pub(crate) cache_memory: Option<ByteSize>,
    /// Memory limit of the whole process, such as 8GiB. A model that needs more is refused before it is loaded.
    #[arg(long, env = "RBEE_MEMORY", value_name = "SIZE")]
    pub(crate) memory: Option<ByteSize>,
    /// Compute device: cpu, cuda:N (N is the index of the GPU) or metal. The program must be built with support for it.
    #[arg(long, env = "RBEE_DEVICE", default_value = "cpu")]
    pub(crate) device: ComputeDevice,
    /// Use huge pages for weights and KV cache, if the kernel offers them.
    #[arg(long, env = "RBEE_HUGE_PAGES", default_value = "on", value_name = "ON|OFF")]
    pub(crate) huge_pages: HugePages,
    /// URL of the NATS server.
    #[arg(
        long,
        env = "RBEE_NATS",
        hide_env_values = true,
        default_value = "nats://127.0.0.1:4222",
        value_name = "URL"
    )]
    pub(crate) nats: String,
    /// First token of all subjects.
    #[arg(long, env = "RBEE_NAMESPACE", default_value = "rbee")]
    pub(crate) namespace: Namespace,
    /// Settings of the connection to the NATS server (NAME=VALUE,...).
    #[arg(long, env = "RBEE_CONNECTION", default_value = "", hide_default_value = true)]
    pub(crate) connection: ConnectionSettings,
    /// Timeouts and limits of the worker (NAME=VALUE,...).
    #[arg(long, env = "RBEE_WORKER_SETTINGS", default_value = "", hide_default_value = true)]
    pub(crate) settings: WorkerSettings,
    /// URL of the OpenTelemetry collector to send spans to.
    #[arg(long, env = "RBEE_OTLP", hide_env_values = true)]
    pub(crate) otlp: Option<String>,
    /// Model to load: file:/path/to/model.gguf, or file: with the path of a folder with safetensors.
    pub(crate) reference: ModelReference,
}

impl Options {
    /// URL of the OpenTelemetry collector to send spans to.
    pub fn otlp(&self) -> Option<&str> {
        self.otlp.as_deref()
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            hive: self.hive.clone(),
            worker: self.worker.clone(),
            model: self.model.clone(),
            epoch: self.epoch,
            slots: self.slots,
        }
    }

    pub(crate) fn connection(&self) -> Connection {
        Connection {
            url: self.nats.clone(),
            name: worker_connection(&self.hive, &self.worker),
            namespace: self.namespace.clone(),
            settings: self.connection.clone(),
        }
    }

    pub(crate) fn load_options(&self) -> LoadOptions {
        LoadOptions {
            kind: self.kind,
            context: self.context,
            slots: self.slots,
            template: TemplateLimits::from(&self.settings),
            threads: self.threads,
            cache_bytes: self.cache_memory.map(ByteSize::bytes),
            memory_bytes: self.memory.map(ByteSize::bytes),
        }
    }
}
