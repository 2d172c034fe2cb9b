//! Lifecycle events, on `rbee.evt.>` and kept in the stream `events`.
//!
//! The subject says who: `rbee.evt.worker.<hive>.<worker>.<event>`. The body says what; its `event` field repeats the
//! last token, so that a document can be read alone. The time of an event is the time that the broker stored it.
//! Events are past tense. Readers skip events that they do not know.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    AlertEvent, AlertKind, Failure, FinishReason, HiveName, HostName, JobId, MemoryEstimate, ModelName, ModelReference,
    ModelSpec, QueenName, Tenant, Usage, WorkerName,
};

/// Any event, with whom it is about. Subjects carry the names, bodies the rest; see `rbee_nats::Subject`.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// About a queen.
    Queen(QueenName, QueenEvent),
    /// About a hive.
    Hive(HiveName, HiveEvent),
    /// About a worker of a hive.
    Worker(HiveName, WorkerName, WorkerEvent),
    /// About a port of a hive.
    Port(HiveName, u16, PortEvent),
    /// About a model's declaration, as the queen sees it.
    Model(ModelName, ModelEvent),
    /// About a job of a tenant.
    Job(Tenant, JobId, JobEvent),
    /// What an operator should look at.
    Alert(AlertKind, AlertEvent),
}

/// Names each variant by the token that stands last in its subject.
macro_rules! event_names {
    ($family:ident { $($variant:ident => $name:literal,)* }) => {
        impl $family {
            /// The names of all events of this family.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// The event's name: the last token of its subject.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $name,)*
                }
            }
        }
    };
}

pub(crate) use event_names;

/// What happened to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum WorkerEvent {
    /// Its process was started, with its port handed over.
    Spawned {
        /// What it will serve.
        model: ModelName,
        /// Which run this is, from 1.
        epoch: u64,
        /// Its process.
        pid: u32,
        /// Its port.
        port: u16,
    },
    /// It reads the model.
    Loading {
        /// Which run this is.
        epoch: u64,
        /// How much is read, in percent.
        percent: u8,
        /// Bytes read.
        done_bytes: u64,
        /// Bytes to read.
        total_bytes: u64,
        /// The memory that it will take, once its header is read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        memory: Option<MemoryEstimate>,
    },
    /// It takes jobs.
    Ready {
        /// What it serves.
        model: ModelName,
        /// Which run this is.
        epoch: u64,
        /// How many jobs it can run at a time.
        slots: u32,
        /// Tokens of prompt and answer together.
        context: u32,
        /// From the start of the process to ready, in milliseconds.
        load_ms: u64,
    },
    /// A hive that was away found it alive and goes on with it.
    Adopted {
        /// What it serves.
        model: ModelName,
        /// Which run this is.
        epoch: u64,
        /// Its process.
        pid: u32,
        /// Its port.
        port: u16,
    },
    /// It is silent or frozen. It is not ended yet.
    Suspect {
        /// Which run this is.
        epoch: u64,
        /// Why, in words.
        why: String,
    },
    /// It was suspect and is heard again.
    Recovered {
        /// Which run this is.
        epoch: u64,
        /// After how long, in milliseconds.
        after_ms: u64,
    },
    /// It takes no further jobs and finishes what runs.
    Draining {
        /// Why, in words.
        why: String,
    },
    /// Its process was told to end.
    Stopping {
        /// Why, in words.
        why: String,
    },
    /// Its process does not end, although it was killed: its port and memory stay taken. Somebody must look.
    Unkillable {
        /// The process.
        pid: u32,
        /// How long ago it was killed first, in milliseconds.
        since_ms: u64,
    },
    /// Its process ended.
    Exited {
        /// What it served.
        model: ModelName,
        /// Which run this was.
        epoch: u64,
        /// What kind of end it was.
        class: ExitClass,
        /// The exit code, where it had one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
        /// The signal that ended it, where one did (9 is SIGKILL).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// Why it ended, in words.
        #[serde(default)]
        why: String,
        /// Jobs that it ran, given back to the queue.
        jobs_returned: u32,
        /// The last lines that it wrote.
        stderr_tail: Vec<String>,
    },
    /// It will be started again.
    Restarting {
        /// The next run.
        epoch: u64,
        /// After how long, in milliseconds.
        delay_ms: u64,
        /// Why, in words.
        why: String,
    },
    /// It ended too often: it is tried again only rarely, and the model is better served elsewhere.
    CrashLooped {
        /// What it was to serve.
        model: ModelName,
        /// What happened, in words.
        failure: Failure,
        /// After how long it is tried once more, in milliseconds.
        retry_ms: u64,
    },
    /// It was refused or given up.
    Failed {
        /// What it was to serve.
        model: ModelName,
        /// Why.
        failure: Failure,
    },
    /// It is gone for good, as was wanted.
    Removed {
        /// What it served.
        model: ModelName,
        /// Why, in words.
        why: String,
    },
    /// Something was heard that does not fit its state; it was counted and not obeyed.
    Ignored {
        /// What was heard.
        received: String,
        /// The state that it did not fit.
        state: String,
    },
}

event_names!(WorkerEvent {
    Spawned => "spawned",
    Loading => "loading",
    Ready => "ready",
    Adopted => "adopted",
    Suspect => "suspect",
    Recovered => "recovered",
    Draining => "draining",
    Stopping => "stopping",
    Unkillable => "unkillable",
    Exited => "exited",
    Restarting => "restarting",
    CrashLooped => "crash-looped",
    Failed => "failed",
    Removed => "removed",
    Ignored => "ignored",
});

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExitClass {
    /// As it was told, or of its own accord with code 0.
    Clean,
    /// By a signal that the hive did not send.
    Signal,
    /// It needed more memory than its limit.
    Oom,
    /// The hive killed it because it did not become ready in time.
    ReadyTimeout,
    /// The hive killed it: its heartbeats stopped, it made no progress, or it did not answer its health check.
    Hang,
    /// Its data is at fault (exit 65); it is not started again.
    Data,
    /// Its configuration is at fault (exit 78); it is not started again.
    Config,
    /// It may not do what it must (exit 77); it is not started again.
    Permission,
    /// With another code.
    Other,
    /// Nobody knows: it ended while its hive was away, or was adopted from an earlier run of the hive.
    Unknown,
}

impl fmt::Display for ExitClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Clean => "clean",
            Self::Signal => "signal",
            Self::Oom => "oom",
            Self::ReadyTimeout => "ready-timeout",
            Self::Hang => "hang",
            Self::Data => "data",
            Self::Config => "config",
            Self::Permission => "permission",
            Self::Other => "other",
            Self::Unknown => "unknown",
        })
    }
}

/// What happened to a hive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum HiveEvent {
    /// It takes commands.
    Joined {
        /// Which run of the hive this is.
        epoch: u64,
        /// The version of its program.
        version: String,
        /// Its machine.
        host: HostName,
        /// The first port that it may lease.
        first_port: u16,
        /// The last port that it may lease.
        last_port: u16,
    },
    /// It has looked after what its earlier runs left.
    Recovered {
        /// Workers that lived and are its own again.
        adopted: u32,
        /// Workers that had ended meanwhile.
        ended: u32,
        /// Processes that belonged to no worker and were killed.
        killed: u32,
        /// Port leases that belonged to no worker and were released.
        leases_released: u32,
    },
    /// Its workers end too often: load is better placed elsewhere.
    Degraded {
        /// Why, in words.
        why: String,
    },
    /// It is no longer degraded.
    Restored {},
    /// It takes no further workers and drains those that it has.
    Draining {
        /// Why, in words.
        why: String,
        /// Workers that it has.
        #[serde(default)]
        workers: u32,
    },
    /// One worker less, while it drains.
    Drained {
        /// Workers that are left.
        left: u32,
    },
    /// It takes workers again.
    Resumed {},
    /// It ended; its workers are gone.
    Stopped {
        /// Workers that had to be killed.
        killed: u32,
    },
    /// Another hive of the same name is newer. This one has ended and left its workers alone.
    Fenced {
        /// Where the other one runs.
        by: HostName,
    },
    /// A command could not be read or not be followed.
    Refused {
        /// Why.
        failure: Failure,
    },
    /// A model file is being fetched.
    FetchProgress {
        /// What is fetched.
        reference: ModelReference,
        /// Bytes that are here.
        done_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// A model file is here and whole.
    Fetched {
        /// What was fetched.
        reference: ModelReference,
        /// Its size.
        bytes: u64,
        /// Its SHA-256 in hexadecimal.
        sha256: String,
    },
    /// A model file could not be fetched. Nothing of it can be loaded.
    FetchFailed {
        /// What was to be fetched.
        reference: ModelReference,
        /// Why.
        failure: Failure,
    },
    /// A model file was deleted.
    FileRemoved {
        /// Which.
        reference: ModelReference,
        /// Bytes that are free again.
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

/// What happened to a queen, and what it decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum QueenEvent {
    /// It listens.
    Started {
        /// The version of its program.
        version: String,
    },
    /// It chose a hive for a new worker and commanded the spawn.
    Placed {
        /// The model in demand.
        model: ModelName,
        /// Where.
        hive: HiveName,
        /// The new worker.
        worker: WorkerName,
        /// Why there, in words.
        why: String,
        /// How long until it takes jobs, in milliseconds, where such a worker was seen to start before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected_ms: Option<u64>,
    },
    /// A worker that it has placed takes jobs.
    Fulfilled {
        /// What it serves.
        model: ModelName,
        /// Where.
        hive: HiveName,
        /// Which worker.
        worker: WorkerName,
        /// How long that was expected to take, in milliseconds, where such a worker was seen to start before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected_ms: Option<u64>,
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
    /// It leads: it decides from now on, and hives follow its commands.
    Elected {
        /// Which term this is; later ones have higher numbers.
        term: u64,
        /// Who led before, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<QueenName>,
    },
    /// It leads no longer.
    Deposed {
        /// Which term is over.
        term: u64,
        /// Why, in words.
        why: String,
    },
    /// A hive is silent. It gets no further workers; those that it has serve on.
    HiveSuspected {
        /// Which hive.
        hive: HiveName,
        /// Why, in words.
        why: String,
    },
    /// A hive is gone: others replace its workers, until it returns.
    HiveLost {
        /// Which hive.
        hive: HiveName,
        /// Workers that it had.
        workers: u32,
        /// For how long nothing was heard of it, in milliseconds.
        heartbeat_age_ms: u64,
    },
    /// A hive that was silent or gone is heard again.
    HiveReturned {
        /// Which hive.
        hive: HiveName,
        /// Which run of it.
        epoch: u64,
        /// For how long nothing was heard of it, in milliseconds.
        heartbeat_age_ms: u64,
    },
    /// A hive has been gone for so long that nothing is expected of it any more; what was known of its workers is
    /// forgotten.
    HiveRemoved {
        /// Which hive.
        hive: HiveName,
        /// Workers that are forgotten.
        workers: u32,
    },
    /// A model is in demand and no hive can run it.
    Unplaceable {
        /// The model in demand.
        model: ModelName,
        /// Why.
        failure: Failure,
    },
    /// It was told that the server has let somebody not in. Once in two minutes for each.
    LoginRefused {
        /// Who it pretended to be.
        user: String,
        /// From where.
        host: String,
        /// Why, in the server's words.
        why: String,
    },
    /// It commanded a worker to stop.
    Stopping {
        /// Where.
        hive: HiveName,
        /// Which.
        worker: WorkerName,
        /// Why, in words.
        why: String,
    },
    /// It ends. Workers go on.
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

/// What happened to a port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum PortEvent {
    /// It was leased and bound.
    Leased {
        /// For whom.
        worker: WorkerName,
        /// Ports that the hive has leased now.
        in_use: u32,
        /// Why this one, in words.
        why: String,
    },
    /// It is free again.
    Released {
        /// Who had it.
        worker: WorkerName,
        /// Ports that the hive has leased now.
        in_use: u32,
        /// Why, in words.
        why: String,
    },
    /// It was leased although no worker had it: the lease was taken back.
    Reclaimed {
        /// For whom it was leased.
        worker: WorkerName,
        /// Ports that the hive has leased now.
        in_use: u32,
        /// Why, in words.
        why: String,
    },
    /// It was passed over.
    Skipped {
        /// For whom a port was looked for.
        worker: WorkerName,
        /// Why, in words.
        why: String,
    },
}

event_names!(PortEvent {
    Leased => "leased",
    Released => "released",
    Reclaimed => "reclaimed",
    Skipped => "skipped",
});

/// What happened to a model's declaration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum ModelEvent {
    /// It is declared; the queen will serve it.
    Declared {
        /// How.
        spec: Box<ModelSpec>,
        /// How it was declared before, where it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Box<ModelSpec>>,
    },
    /// It is no longer declared; its workers are stopped.
    Withdrawn {},
    /// What stands in the bucket is no declaration; it has no effect.
    Refused {
        /// Why.
        failure: Failure,
    },
}

event_names!(ModelEvent {
    Declared => "declared",
    Withdrawn => "withdrawn",
    Refused => "refused",
});

/// What happened to a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum JobEvent {
    /// A worker has taken it.
    Started {
        /// Where.
        hive: HiveName,
        /// Which worker.
        worker: WorkerName,
        /// Which delivery this is, from 1.
        attempt: u64,
    },
    /// Its worker ended; it is in the queue again.
    Returned {
        /// Where.
        hive: HiveName,
        /// Which worker.
        worker: WorkerName,
    },
    /// It was answered.
    Finished {
        /// Why the answer ended.
        finish_reason: FinishReason,
        /// What it took.
        usage: Usage,
        /// From being taken to the end, in milliseconds.
        duration_ms: u64,
    },
    /// It was refused, cancelled or given up.
    Failed {
        /// Why.
        failure: Failure,
    },
}

event_names!(JobEvent {
    Started => "started",
    Returned => "returned",
    Finished => "finished",
    Failed => "failed",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_field_repeats_the_name_in_the_subject() {
        let why = String::from("idle");
        for (name, json) in [
            ("draining", serde_json::to_value(WorkerEvent::Draining { why: why.clone() })),
            ("stopped", serde_json::to_value(HiveEvent::Stopped { killed: 0 })),
            ("stopped", serde_json::to_value(QueenEvent::Stopped {})),
            ("withdrawn", serde_json::to_value(ModelEvent::Withdrawn {})),
        ] {
            assert_eq!(json.expect("serializes")["event"], name);
        }
        assert!(WorkerEvent::NAMES.contains(&WorkerEvent::Stopping { why }.name()));
    }

    #[test]
    fn fields_that_are_not_known_are_tolerated() {
        let event: WorkerEvent = serde_json::from_str(r#"{"event":"draining","why":"x","later":1}"#).expect("tolerant");
        assert_eq!(event, WorkerEvent::Draining { why: "x".into() });
    }
}
