//! `rbee ports`: leased ports, read from their bucket.

use clap::Args;
use rbee_nats::Registry;
use serde::Serialize;

use crate::{Setting, outcome::Outcome, show};

/// Options of `rbee ports`.
#[derive(Debug, Args)]
pub struct Ports {}

#[derive(Serialize)]
struct Row {
    host: String,
    port: u16,
    hive: String,
    worker: String,
}

impl Ports {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus("cli/ports").await?;
        let leases = Registry::ports(&bus).all().await?;
        let mut rows: Vec<Row> = leases
            .into_iter()
            .filter_map(|(key, lease)| {
                let (host, port) = key.rsplit_once('.')?;
                let (hive, worker) = (lease.hive.to_string(), lease.worker.to_string());
                Some(Row { host: host.to_owned(), port: port.parse().ok()?, hive, worker })
            })
            .collect();
        rows.sort_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
        if setting.json {
            show::json(&serde_json::json!({ "ports": rows }));
            return Ok(());
        }
        let rows = rows.into_iter().map(|row| [row.host, row.port.to_string(), row.hive, row.worker]);
        show::table(["HOST", "PORT", "HIVE", "WORKER"], rows.collect(), "no ports are leased");
        Ok(())
    }
}
