//! `rbee ps`: lists workers.

use clap::Args;
use rbee_schema::api::{Worker, Workers};

use crate::{
    Context,
    error::CliError,
    output::{self, or_dash},
    paging,
};

/// Options of `rbee ps`.
#[derive(Debug, Args)]
pub(crate) struct Ps {}

impl Ps {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/ps").await?;
        let workers: Workers = paging::fetch_all(&bus).await?;
        if context.json {
            output::json(&workers);
            return Ok(());
        }
        let header = [
            "WORKER", "MODEL", "HIVE", "PHASE", "PID", "PORT", "SLOTS", "TOKENS", "CACHED", "MEMORY", "LIMITS", "RUN",
            "SINCE",
        ];
        let empty = "no worker is running; workers start when a job arrives (`rbee run NAME PROMPT`)";
        output::table(header, workers.workers.iter().map(row).collect(), empty);
        Ok(())
    }
}

fn row(worker: &Worker) -> [String; 13] {
    let record = &worker.record;
    let memory = (worker.memory_bytes > 0).then(|| output::bytes(worker.memory_bytes));
    [
        worker.name.to_string(),
        record.model.to_string(),
        worker.hive.to_string(),
        if worker.known { record.phase.as_str().to_owned() } else { "unknown".to_owned() },
        or_dash(record.pid),
        or_dash(record.port),
        format!("{}/{}", worker.jobs.len(), record.slots),
        worker.tokens.to_string(),
        or_dash(worker.cache.and_then(|cache| cache.hit_rate()).map(|rate| format!("{:.0}%", 100.0 * rate))),
        or_dash(memory),
        or_dash(record.limits.as_ref().and_then(output::limits)),
        record.epoch.to_string(),
        or_dash(worker.since.as_deref().map(output::timestamp)),
    ]
}
