//! Commands: what the queen wants a hive to do, and what a worker is told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ModelName, ModelSpec, WorkerName};

/// A command to a hive, on `rbee.cmd.hive.<hive>`; durable, and expired when nobody took it for a minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum HiveCommand {
    /// Start a worker. Answered by its `spawned` or `failed` event. Idempotent by the worker's name.
    Spawn {
        /// Its name, chosen by who commands.
        worker: WorkerName,
        /// The model's name.
        model: ModelName,
        /// How to serve it.
        spec: ModelSpec,
    },
    /// Let a worker finish its jobs, then end it for good. Answered by its `removed` event.
    Stop {
        /// Which worker.
        worker: WorkerName,
        /// Why, in words.
        #[serde(default)]
        why: String,
    },
}

/// What a worker is told, on `rbee.ctl.worker.<hive>.<worker>`; not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "control", rename_all = "kebab-case")]
pub enum WorkerControl {
    /// Take no further jobs, finish what runs, and end.
    Drain,
}
