//! `rbee ports`: lists the port leases in the `ports` bucket.

use clap::Args;
use rbee_nats::Registry;
use serde::Serialize;

use crate::{Context, error::CliError, output};

/// Options of `rbee ports`.
#[derive(Debug, Args)]
pub(crate) struct Ports {}

/// A leased port.
#[derive(Serialize)]
struct Lease {
    host: String,
    port: u16,
    hive: String,
    worker: String,
}

impl Ports {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/ports").await?;
        let leases = Registry::ports(&bus).all().await?;
        let mut rows: Vec<Lease> = leases
            .into_iter()
            .filter_map(|(key, lease)| {
                let (host, port) = key.rsplit_once('.')?;
                let (hive, worker) = (lease.hive.to_string(), lease.worker.to_string());
                Some(Lease { host: host.to_owned(), port: port.parse().ok()?, hive, worker })
            })
            .collect();
        rows.sort_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
        if context.json {
            output::json(&serde_json::json!({ "ports": rows }));
            return Ok(());
        }
        let rows = rows.into_iter().map(|row| [row.host, row.port.to_string(), row.hive, row.worker]);
        output::table(["HOST", "PORT", "HIVE", "WORKER"], rows.collect(), "no port is leased");
        Ok(())
    }
}
