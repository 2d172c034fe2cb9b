//! Configuration of a hive, and the errors that end it.

use std::{io, ops::RangeInclusive, path::PathBuf};

use rbee_nats::BusError;
use rbee_schema::{Device, HiveName, HostName, Labels, Limits, Protocol, WorkerSettings};

use crate::{decide::rules::Rules, ledger::LedgerError, store::StoreConfig};

/// Configuration of a hive.
#[derive(Debug, Clone)]
pub struct HiveConfig {
    /// Name of the hive.
    pub name: HiveName,
    /// Name of the machine. Port numbers are unique within it.
    pub host: HostName,
    /// Ports that the hive may lease.
    pub ports: RangeInclusive<u16>,
    /// Folder of the ledger and of the workers' logs.
    pub data: PathBuf,
    /// Path of the worker program.
    pub worker_program: PathBuf,
    /// Store of model files.
    pub store: StoreConfig,
    /// Address of the server for the workers.
    pub nats_url: String,
    /// Limits of a worker whose model declares none.
    pub limits: Limits,
    /// Devices of the worker program, the default first.
    pub devices: Vec<Device>,
    /// Largest number of workers.
    pub max_workers: u32,
    /// Labels of this hive. A model's `labels` select hives by them.
    pub labels: Labels,
    /// Timers and bounds of the hive.
    pub rules: Rules,
    /// Settings of the workers.
    pub worker: WorkerSettings,
    /// Address of the hive's metrics, published in its record.
    pub metrics: Option<String>,
    /// OTLP collector to which the workers send their spans.
    pub otlp: Option<String>,
}

/// An error that ends a hive.
#[derive(Debug, thiserror::Error)]
pub enum HiveError {
    /// The worker program does not exist.
    #[error(
        "no worker program at {}: build it with `cargo build -p rbee-worker`, or name another with --worker-program",
        .0.display()
    )]
    NoWorkerProgram(PathBuf),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Another hive of this name is registered, with another ledger.
    #[error(
        "a hive named {name} already runs on {host} (process {pid}): choose another name with --name, or stop that hive and \
         try again; if it was killed, its registration expires after 30 s, unless its timers say otherwise"
    )]
    Runs {
        /// Name of both hives.
        name: HiveName,
        /// Machine of the other hive.
        host: HostName,
        /// Process number of the other hive.
        pid: u32,
    },
    /// A newer hive of this name has started.
    #[error("a newer hive named {name} runs on {by}: this one has stopped its workers and ended")]
    Fenced {
        /// Name of both hives.
        name: HiveName,
        /// Machine of the other hive.
        by: HostName,
    },
    /// The leading queen speaks no protocol version that this hive understands.
    #[error(
        "the leading queen is of version {version} and speaks protocol {theirs}; this hive speaks {}: run the same version \
         of rbee on both machines",
        Protocol::OURS
    )]
    Incompatible {
        /// Version of the queen.
        version: String,
        /// Protocol versions of the queen.
        theirs: Protocol,
    },
    /// The timers of the leading queen do not fit those of this hive.
    #[error("{0}")]
    Unsuited(String),
    /// The store of model files cannot be opened.
    #[error("failed to open the store of model files: {0}; choose another folder with --models")]
    Store(io::Error),
    /// A request to the bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The handler of a signal could not be installed.
    #[error("failed to install a signal handler: {0}")]
    System(#[from] io::Error),
    /// The connection to the bus was closed.
    #[error("the connection to the bus is closed")]
    Closed,
}

impl HiveError {
    /// True where another hive of the same name is the cause.
    pub fn is_taken(&self) -> bool {
        match self {
            Self::Ledger(LedgerError::Held { .. }) | Self::Runs { .. } | Self::Fenced { .. } => true,
            Self::NoWorkerProgram(_)
            | Self::Incompatible { .. }
            | Self::Unsuited(_)
            | Self::Ledger(_)
            | Self::Store(_)
            | Self::Bus(_)
            | Self::System(_)
            | Self::Closed => false,
        }
    }
}
