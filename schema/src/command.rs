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
        /// The way in which the worker is stopped; default `drain`.
        #[serde(default)]
        mode: StopMode,
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

/// The way in which workers are stopped. Each mode is stronger than the one before it; default `drain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StopMode {
    /// The worker takes no further jobs and finishes those that it runs, within the drain timeout. Then it ends.
    #[default]
    Drain,
    /// The worker ends at once (SIGTERM). Its unfinished jobs return to the queue and continue on other workers.
    Terminate,
    /// The worker is killed (SIGKILL). Its unfinished jobs return to the queue and continue on other workers.
    Kill,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_without_a_mode_drains() {
        let stop: HiveCommand = serde_json::from_str(r#"{"command":"stop","worker":"w"}"#).expect("valid");
        let expected =
            HiveCommand::Stop { worker: "w".parse().expect("a name"), why: String::new(), mode: StopMode::Drain };
        assert_eq!(stop, expected);
    }

    #[test]
    fn each_stop_mode_is_stronger_than_the_one_before() {
        assert!(StopMode::Drain < StopMode::Terminate && StopMode::Terminate < StopMode::Kill);
    }
}
