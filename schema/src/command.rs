//! Commands to hives, and control messages to workers and queens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ModelName, ModelReference, ModelSpec, WorkerName};

/// Command to a hive, on `rbee.cmd.hive.<hive>`. Stored, and expired if the hive does not take it within a minute.
///
/// The header `Rbee-Term` holds the term of the queen that issued the command. A hive refuses commands of an earlier term
/// than it knows. A command without the header comes from a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum HiveCommand {
    /// Start a worker. Answered by its event `spawned` or `failed`. Repeating the command with the same name has no effect.
    Spawn {
        /// Name of the worker, chosen by the sender.
        worker: WorkerName,
        /// Name of the model.
        model: ModelName,
        /// Declaration of the model.
        spec: ModelSpec,
    },
    /// Stop a worker for good. Answered by its event `removed`.
    Stop {
        /// Name of the worker.
        worker: WorkerName,
        /// Reason in plain text.
        #[serde(default)]
        why: String,
        /// Stop mode; default `drain`.
        #[serde(default)]
        mode: StopMode,
    },
    /// Restart a worker at once that was given up or waits for its restart backoff. Answered by its event `spawned`.
    Reset {
        /// Name of the worker.
        worker: WorkerName,
    },
    /// Drain the hive: take no further workers, and stop the running ones once the queen has started others in their place, or
    /// after a time limit. Answered by `draining`, and by one `drained` for each worker. The hive itself continues.
    Drain {
        /// Reason in plain text.
        #[serde(default)]
        why: String,
        /// Mode in which its workers stop, at least; default `drain`: they finish their jobs. With `terminate` their jobs are
        /// handed over and continue on other workers.
        #[serde(default)]
        mode: StopMode,
    },
    /// Take workers again after a drain. Answered by `resumed`.
    Resume,
    /// Stop the hive after its workers. Answered by `stopped`.
    Shutdown {
        /// Reason in plain text.
        #[serde(default)]
        why: String,
        /// Epoch (run number) of the hive that is meant, so that a late command does not stop a later run. Default: any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<u64>,
    },
    /// Fetch a model file into the hive's store. Answered by `fetched` or `fetch-failed`.
    Fetch {
        /// Model file.
        reference: ModelReference,
    },
    /// Delete a model file from the hive's store. Answered by `file-removed` or `refused`.
    RemoveFile {
        /// Model file.
        reference: ModelReference,
    },
}

/// Mode of stopping workers. Each mode is stronger than the one before it; default `drain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StopMode {
    /// The worker takes no further jobs and finishes those that it runs, within the finish timeout of an hour. Then it ends. For
    /// jobs that no other worker would continue.
    Finish,
    /// The worker takes no further jobs and finishes those that it runs, within the drain timeout. Then it ends.
    #[default]
    Drain,
    /// The worker ends at once (SIGTERM). Its unfinished jobs return to the queue and continue on other workers.
    Terminate,
    /// The worker is killed (SIGKILL). Its unfinished jobs return to the queue and continue on other workers.
    Kill,
}

impl StopMode {
    /// Mode for workers whose jobs are handed over, or finish where they run.
    pub fn of_drain(hand_over: bool) -> Self {
        if hand_over { Self::Terminate } else { Self::Drain }
    }
}

/// Control message to a worker, on `rbee.ctl.worker.<hive>.<worker>`. Not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "control", rename_all = "kebab-case")]
pub enum WorkerControl {
    /// Take no further jobs, finish the running ones, and end.
    Drain,
}

/// Control message to all queens, on `rbee.ctl.queen`. Not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "control", rename_all = "kebab-case")]
pub enum QueenControl {
    /// Stop. Hives and workers continue.
    Stop {
        /// Reason in plain text.
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
        assert!([StopMode::Finish, StopMode::Drain, StopMode::Terminate, StopMode::Kill].is_sorted_by(|a, b| a < b));
    }
}
