//! What a hive is told when it starts, and why it may not run.

use std::{io, ops::RangeInclusive, path::PathBuf};

use rbee_nats::BusError;
use rbee_schema::{Device, HiveName, HostName, Labels, Limits, Protocol, WorkerSettings};

use crate::{decide::rules::Rules, ledger::LedgerError, store::StoreConfig};

/// Who a hive is and what it may use.
#[derive(Debug, Clone)]
pub struct HiveConfig {
    /// Its name.
    pub name: HiveName,
    /// Its machine: port numbers are unique there.
    pub host: HostName,
    /// The ports that it may lease.
    pub ports: RangeInclusive<u16>,
    /// Where it keeps its ledger and its workers' output.
    pub data: PathBuf,
    /// The worker program.
    pub worker_program: PathBuf,
    /// Where it keeps model files, and where it fetches them from.
    pub store: StoreConfig,
    /// The server that workers are told to use.
    pub nats_url: String,
    /// What a worker may use where its model's declaration does not say.
    pub limits: Limits,
    /// What the worker program runs on; the first is what it runs on by itself.
    pub devices: Vec<Device>,
    /// How many workers it runs at most.
    pub max_workers: u32,
    /// What it is called by, for declarations that ask for it.
    pub labels: Labels,
    /// How long it waits for what, and what it bears.
    pub rules: Rules,
    /// The same of its workers.
    pub worker: WorkerSettings,
    /// Where its metrics are served, for whoever reads its record.
    pub metrics: Option<String>,
    /// The collector that its workers send their spans to.
    pub otlp: Option<String>,
}

/// A hive that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum HiveError {
    /// The worker program is not there.
    #[error(
        "no worker program at {}: build it with `cargo build -p rbee-worker`, or name another with --worker-program",
        .0.display()
    )]
    NoWorkerProgram(PathBuf),
    /// The hive's state cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A hive of this name is on the bus, with another state folder.
    #[error(
        "a hive named {name} runs already on {host} (process {pid}): give this one another name with --name, or stop that \
         one and try again; if it was killed, its name is free when its key lapses, 30 s later unless its timers say \
         otherwise"
    )]
    Runs {
        /// The name of both.
        name: HiveName,
        /// Where the other one runs.
        host: HostName,
        /// Its process.
        pid: u32,
    },
    /// A hive of this name that is newer took over.
    #[error("another hive named {name} runs on {by} and is newer: this one has stopped its workers and ended")]
    Fenced {
        /// The name of both.
        name: HiveName,
        /// Where the other one runs.
        by: HostName,
    },
    /// The queen who leads does not understand it.
    #[error(
        "the queen who leads is version {version} and speaks protocol {theirs}; this hive speaks {}: run the same version \
         of rbee here and there",
        Protocol::OURS
    )]
    Incompatible {
        /// The version of her program.
        version: String,
        /// What she understands.
        theirs: Protocol,
    },
    /// The queen who leads would think that it is gone between two of its heartbeats.
    #[error("{0}")]
    Unsuited(String),
    /// The folder of model files cannot be used.
    #[error("the store of model files cannot be used: {0}; choose another folder with --models")]
    Store(io::Error),
    /// The bus does not do what it must.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The machine does not do what it must.
    #[error("failed to listen for signals of the system: {0}")]
    System(#[from] io::Error),
    /// The connection to the bus was closed under it.
    #[error("the connection to the bus is closed")]
    Closed,
}

impl HiveError {
    /// Whether another hive of the same name is why.
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
