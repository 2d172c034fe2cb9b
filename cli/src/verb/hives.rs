//! `rbee hives`: lists connected hives.

use clap::Args;
use rbee_schema::api::{Hive, Hives as Reply};

use crate::{
    Context,
    error::CliError,
    output::{self, or_dash},
    paging,
};

/// Options of `rbee hives`.
#[derive(Debug, Args)]
pub(crate) struct Hives {}

impl Hives {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/hives").await?;
        let hives: Reply = paging::fetch_all(&bus).await?;
        if context.json {
            output::json(&hives);
            return Ok(());
        }
        let header = ["HIVE", "HOST", "STATE", "WORKERS", "PORTS", "MEMORY", "CORES", "LIMITS BY", "VERSION"];
        let empty = "no hive is connected; start one with `rbee hive --nats URL`";
        output::table(header, hives.hives.iter().map(row).collect(), empty);
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
            "" | "online" => output::hive_state(record),
            away => away.to_owned(),
        },
        hive.workers.to_string(),
        format!("{}-{}", record.first_port, record.last_port),
        or_dash((memory > 0).then(|| output::bytes(memory))),
        or_dash((record.cores > 0).then_some(record.cores)),
        or_dash(record.limit_method.map(|by| by.as_str())),
        record.version.clone(),
    ]
}
