//! Commands: what the queen wants a hive to do, and what a worker is told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ModelName, ModelReference, ModelSpec, WorkerName};

/// A command to a hive, on `rbee.cmd.hive.<hive>`; durable, and expired when nobody took it for a minute.
///
/// The header `Rbee-Term` holds the term of the queen who commands: a hive refuses a term that is over. A command without
/// it is a person's.
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
    /// End a worker for good. Answered by its `removed` event.
    Stop {
        /// Which worker.
        worker: WorkerName,
        /// Why, in words.
        #[serde(default)]
        why: String,
        /// Whether its jobs are finished first.
        #[serde(default)]
        haste: Haste,
    },
    /// Start a worker anew that was given up or waits for its next try. Answered by its `spawned` event.
    Reset {
        /// Which worker.
        worker: WorkerName,
    },
    /// Take no further workers, let those that run finish their jobs, and end them. Answered by `draining`, then one
    /// `drained` for each worker; the hive stays.
    Drain {
        /// Why, in words.
        #[serde(default)]
        why: String,
    },
    /// Take workers again after a drain. Answered by `resumed`.
    Resume,
    /// End the hive, after its workers. Answered by `stopped`.
    Shutdown {
        /// Why, in words.
        #[serde(default)]
        why: String,
        /// Which run of the hive is meant: a later one is not ended by what came too late. Any, where this is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<u64>,
    },
    /// Fetch a model file into the hive's store. Answered by `fetched` or `fetch-failed`.
    Fetch {
        /// Which.
        reference: ModelReference,
    },
    /// Delete a model file from the hive's store. Answered by `file-removed` or `refused`.
    RemoveFile {
        /// Which.
        reference: ModelReference,
    },
}

/// Whether what runs is finished before an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Haste {
    /// Jobs that run are finished, within the time that a drain may take.
    #[default]
    Drain,
    /// Jobs that run go on elsewhere.
    AtOnce,
}

/// What a worker is told, on `rbee.ctl.worker.<hive>.<worker>`; not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "control", rename_all = "kebab-case")]
pub enum WorkerControl {
    /// Take no further jobs, finish what runs, and end.
    Drain,
}

/// What every queen is told, on `rbee.ctl.queen`; not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "control", rename_all = "kebab-case")]
pub enum QueenControl {
    /// End. Hives and workers are not touched by that.
    Stop {
        /// Why, in words.
        #[serde(default)]
        why: String,
    },
}
