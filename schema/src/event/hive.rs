//! Events of hives, on `rbee.evt.hive.<hive>.<event>`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::event_names;
use crate::{Failure, HostName, ModelReference};

/// Event of a hive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum HiveEvent {
    /// The hive started and takes commands.
    Joined {
        /// Epoch: number of this run of the hive.
        epoch: u64,
        /// Version of the hive's program.
        version: String,
        /// Name of the hive's machine.
        host: HostName,
        /// First port that the hive may lease.
        first_port: u16,
        /// Last port that the hive may lease.
        last_port: u16,
    },
    /// The hive checked what its earlier runs left on the machine, and found something.
    Recovered {
        /// Workers that were alive. The hive manages them again.
        adopted: u32,
        /// Workers that had exited while the hive was away.
        ended: u32,
        /// Processes without a worker record. The hive killed them.
        killed: u32,
        /// Port leases without a worker. The hive released them.
        leases_released: u32,
    },
    /// Workers of the hive exit too often. The queen prefers other hives.
    Degraded {
        /// Reason in plain text.
        why: String,
    },
    /// The hive is no longer degraded.
    Restored {},
    /// The hive takes no further workers and drains the ones that it runs.
    Draining {
        /// Reason in plain text.
        why: String,
        /// Workers that the hive runs.
        #[serde(default)]
        workers: u32,
    },
    /// A draining hive has one worker less.
    Drained {
        /// Workers that are left.
        left: u32,
    },
    /// The hive takes workers again after a drain.
    Resumed {},
    /// The hive stopped, and so did its workers.
    Stopped {
        /// Workers that had to be killed.
        killed: u32,
    },
    /// A newer hive with the same name runs. This one ended and left its workers running.
    Fenced {
        /// Machine of the newer hive.
        by: HostName,
    },
    /// The hive refused a command: it could not be read or carried out.
    Refused {
        /// Reason of the refusal.
        failure: Failure,
    },
    /// The hive is fetching a model file.
    FetchProgress {
        /// Model file.
        reference: ModelReference,
        /// Bytes fetched so far.
        done_bytes: u64,
        /// Size of the file in bytes.
        total_bytes: u64,
    },
    /// The hive fetched a model file completely and verified it.
    Fetched {
        /// Model file.
        reference: ModelReference,
        /// Size of the file in bytes.
        bytes: u64,
        /// SHA-256 of the file, in hexadecimal.
        sha256: String,
    },
    /// The hive could not fetch a model file. No part of it is usable.
    FetchFailed {
        /// Model file.
        reference: ModelReference,
        /// Reason of the failure.
        failure: Failure,
    },
    /// The hive deleted a model file.
    FileRemoved {
        /// Model file.
        reference: ModelReference,
        /// Bytes freed on the disk.
        bytes: u64,
    },
}

event_names!(HiveEvent {
    Joined => "joined",
    Recovered => "recovered",
    Degraded => "degraded",
    Restored => "restored",
    Draining => "draining",
    Drained => "drained",
    Resumed => "resumed",
    Stopped => "stopped",
    Fenced => "fenced",
    Refused => "refused",
    FetchProgress => "fetch-progress",
    Fetched => "fetched",
    FetchFailed => "fetch-failed",
    FileRemoved => "file-removed",
});
