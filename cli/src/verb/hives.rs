//! `rbee hives`: hives that are there.

use clap::Args;
use rbee_schema::api::{Hive, Hives as Reply};

use crate::{
    Setting, listing,
    outcome::Outcome,
    show::{self, or_dash},
};

/// Options of `rbee hives`.
#[derive(Debug, Args)]
pub struct Hives {}

impl Hives {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus("cli/hives").await?;
        let hives: Reply = listing::all(&bus).await?;
        if setting.json {
            show::json(&hives);
            return Ok(());
        }
        let header = ["HIVE", "HOST", "STATE", "WORKERS", "PORTS", "MEMORY", "CORES", "LIMITS BY", "VERSION"];
        let empty = "no hive is connected; start one with `rbee hive --nats URL`";
        show::table(header, hives.hives.iter().map(row).collect(), empty);
        Ok(())
    }
}

fn row(hive: &Hive) -> [String; 9] {
    let record = &hive.record;
    let memory = record.memory.bytes();
    [
        hive.name.to_string(),
        record.host.to_string(),
        match hive.presence.as_str() {
            "" | "online" => show::state(record),
            away => away.to_owned(),
        },
        hive.workers.to_string(),
        format!("{}-{}", record.first_port, record.last_port),
        or_dash((memory > 0).then(|| show::bytes(memory))),
        or_dash((record.cores > 0).then_some(record.cores)),
        or_dash(record.limit_method.map(|by| by.as_str())),
        record.version.clone(),
    ]
}
