//! Options of the workers that a hive starts.

use std::path::PathBuf;

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use rbee_schema::{ByteSize, Device, Limits, WorkerSettings};

use crate::{error::CliError, worker_program::worker_program};

/// Options of the workers that a hive starts.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Workers")]
pub(super) struct WorkerOptions {
    /// Program that the hive starts as a worker [default: rbee-worker beside rbee, else on PATH].
    #[arg(long, env = "RBEE_WORKER_PROGRAM", hide_env_values = true, value_name = "FILE")]
    worker_program: Option<PathBuf>,
    /// Devices that the worker program supports.
    #[arg(long, env = "RBEE_WORKER_DEVICES", hide_env_values = true, default_value = "cpu", value_delimiter = ',',
          value_parser = device_parser(), value_name = "DEVICES")]
    worker_devices: Vec<Device>,
    /// Memory limit of a worker whose model declares none, such as 8GiB.
    #[arg(long, env = "RBEE_WORKER_MEMORY", hide_env_values = true, value_name = "SIZE")]
    worker_memory: Option<ByteSize>,
    /// Limit of open files and sockets of a worker whose model declares none.
    #[arg(long, env = "RBEE_WORKER_OPEN_FILES", hide_env_values = true, default_value_t = 4096, value_name = "N")]
    worker_open_files: u32,
    /// Settings of workers (NAME=VALUE,...), such as answer_tokens=4096. Running workers keep those they started with.
    #[arg(long, hide = true, env = "RBEE_WORKER_SETTINGS", default_value = "", value_name = "NAME=VALUE")]
    worker_settings: WorkerSettings,
}

impl WorkerOptions {
    /// Path of the worker program.
    pub(super) fn program(&self) -> Result<PathBuf, CliError> {
        worker_program(self.worker_program.as_deref())
    }

    /// Devices that the worker program supports.
    pub(super) fn devices(&self) -> Vec<Device> {
        self.worker_devices.clone()
    }

    /// Limits of a worker whose model declares none.
    pub(super) fn limits(&self) -> Limits {
        Limits { memory: self.worker_memory, cpu_millis: None, open_files: Some(self.worker_open_files) }
    }

    /// Settings of the workers.
    pub(super) fn settings(&self) -> &WorkerSettings {
        &self.worker_settings
    }
}

/// Parser of a device that lists the possible ones in the help.
pub(crate) fn device_parser() -> impl TypedValueParser<Value = Device> {
    PossibleValuesParser::new(Device::ALL.map(Device::as_str)).try_map(|name| name.parse::<Device>())
}
