//! Options that every verb receives, and the connection to the bus that they describe.

use std::{path::PathBuf, time::Duration};

use clap::Command;
use rbee_nats::{Bus, Connection, ConnectionSettings, Denial, Namespace};
use tokio::sync::watch;

use crate::{
    config::{ConfigRequest, Origin},
    error::CliError,
};

/// URL of the bus without configuration: the nats-server that `rbee up` starts.
pub(crate) const DEFAULT_NATS: &str = "nats://127.0.0.1:4222";

/// Options of every verb.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) nats: String,
    /// Origin of `nats`.
    pub(crate) nats_origin: Origin,
    pub(crate) namespace: Namespace,
    pub(crate) connection: ConnectionSettings,
    pub(crate) patience: Option<Duration>,
    pub(crate) json: bool,
    pub(crate) log_file: Option<PathBuf>,
    pub(crate) otlp: Option<String>,
    pub(crate) config: ConfigRequest,
    /// Declaration of the command line, for verbs that read or print it.
    pub(crate) command: Command,
    /// Operation that the server has not permitted to this process.
    pub(crate) denied: watch::Sender<Option<Denial>>,
}

impl Context {
    /// Connects to the bus under the connection name `role`.
    pub(crate) async fn bus(&self, role: &str) -> Result<Bus, CliError> {
        self.bus_at(&self.nats, role).await
    }

    /// Connects to the bus at `url` under the connection name `role`.
    pub(crate) async fn bus_at(&self, url: &str, role: &str) -> Result<Bus, CliError> {
        let (url, name, namespace) = (url.to_owned(), role.to_owned(), self.namespace.clone());
        let connection = Connection { url, name, namespace, settings: self.connection.clone() };
        let bus = Bus::connect(&connection).await.map_err(CliError::unavailable)?;
        let (mut denied, report) = (bus.denied(), self.denied.clone());
        tokio::spawn(async move {
            if let Ok(denial) = denied.wait_for(Option::is_some).await {
                report.send_replace(denial.clone());
            }
        });
        Ok(bus)
    }

    /// Longest wait for the next event or chunk: `--patience`, else `default`.
    pub(crate) fn patience(&self, default: Duration) -> Duration {
        self.patience.unwrap_or(default)
    }
}
