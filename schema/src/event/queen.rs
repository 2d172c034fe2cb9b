//! Events of queens, on `rbee.evt.queen.<queen>.<event>`: their lifecycle and their decisions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::event_names;
use crate::{Failure, HiveName, ModelName, QueenName, WorkerName};

/// Event of a queen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum QueenEvent {
    /// The queen started and answers requests.
    Started {
        /// Version of the queen's program.
        version: String,
    },
    /// The queen chose a hive for a new worker and commands it to start one.
    Placed {
        /// Model in demand.
        model: ModelName,
        /// Hive that was chosen.
        hive: HiveName,
        /// Name of the new worker.
        worker: WorkerName,
        /// Reason for the choice, in plain text.
        why: String,
        /// Expected time until the worker is ready, in milliseconds, measured from earlier starts of the model. Absent if
        /// there were none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected_ms: Option<u64>,
    },
    /// A worker that the queen placed is ready.
    Fulfilled {
        /// Model that the worker serves.
        model: ModelName,
        /// Hive of the worker.
        hive: HiveName,
        /// Name of the worker.
        worker: WorkerName,
        /// Expected time until ready, in milliseconds, measured from earlier starts of the model. Absent if there were
        /// none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected_ms: Option<u64>,
        /// Actual time until ready, in milliseconds.
        took_ms: u64,
    },
    /// The queen became the leader: it plans from now on, and hives follow its commands.
    Elected {
        /// Term of this leadership. Later terms have higher numbers.
        term: u64,
        /// Queen that led before, if known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<QueenName>,
    },
    /// The queen is no longer the leader.
    Deposed {
        /// Term that ended.
        term: u64,
        /// Reason in plain text.
        why: String,
    },
    /// A hive sends no heartbeats. It gets no further workers; the ones that it runs continue to serve.
    HiveSuspected {
        /// Name of the hive.
        hive: HiveName,
        /// Reason in plain text.
        why: String,
    },
    /// A hive is lost. Other hives replace its workers until it returns.
    HiveLost {
        /// Name of the hive.
        hive: HiveName,
        /// Workers that the hive ran.
        workers: u32,
        /// Time since the hive's last heartbeat, in milliseconds.
        heartbeat_age_ms: u64,
    },
    /// A suspect or lost hive sends heartbeats again.
    HiveReturned {
        /// Name of the hive.
        hive: HiveName,
        /// Epoch: number of the hive's current run.
        epoch: u64,
        /// Time between the hive's last two heartbeats, in milliseconds.
        heartbeat_age_ms: u64,
    },
    /// A lost hive did not return in time. The queen dropped it and its workers from the fleet.
    HiveRemoved {
        /// Name of the hive.
        hive: HiveName,
        /// Workers that were dropped with it.
        workers: u32,
    },
    /// A model is in demand and no hive can run it.
    Unplaceable {
        /// Model in demand.
        model: ModelName,
        /// Reason of the failure.
        failure: Failure,
    },
    /// The NATS server refused a login. At most one event in two minutes per user and host.
    LoginRefused {
        /// User name that the client gave.
        user: String,
        /// Address of the client.
        host: String,
        /// Reason in the server's words.
        why: String,
    },
    /// The queen commanded a worker to stop.
    Stopping {
        /// Hive of the worker.
        hive: HiveName,
        /// Name of the worker.
        worker: WorkerName,
        /// Reason in plain text.
        why: String,
    },
    /// The queen stopped. Hives and workers continue.
    Stopped {},
}

event_names!(QueenEvent {
    Started => "started",
    Placed => "placed",
    Fulfilled => "fulfilled",
    Elected => "elected",
    Deposed => "deposed",
    HiveSuspected => "hive-suspected",
    HiveLost => "hive-lost",
    HiveReturned => "hive-returned",
    HiveRemoved => "hive-removed",
    Unplaceable => "unplaceable",
    LoginRefused => "login-refused",
    Stopping => "stopping",
    Stopped => "stopped",
});
