//! `rbee hives`: hives that are there.

use clap::Args;
use rbee_schema::api::Hives as Reply;

use crate::{Setting, outcome::Outcome, show};

/// Options of `rbee hives`.
#[derive(Debug, Args)]
pub struct Hives {}

impl Hives {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus("cli/hives").await?;
        let hives: Reply = bus.ask("hives", &()).await?;
        if setting.json {
            show::json(&hives);
            return Ok(());
        }
        let rows = hives.hives.iter().map(|hive| {
            let record = &hive.record;
            let ports = format!("{}-{}", record.first_port, record.last_port);
            let workers = hive.workers.to_string();
            [hive.name.to_string(), record.host.to_string(), workers, ports, record.version.clone()]
        });
        let empty = "no hive is connected; start one with `rbee hive --nats URL`";
        show::table(["HIVE", "HOST", "WORKERS", "PORTS", "VERSION"], rows.collect(), empty);
        Ok(())
    }
}
