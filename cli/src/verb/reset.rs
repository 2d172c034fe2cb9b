//! `rbee reset`: a worker that was given up, or waits for its next try, is tried at once.

use clap::Args;
use rbee_schema::{HiveCommand, WorkerPhase};

use crate::{
    Setting,
    follow::{self, Awaited},
    outcome::Outcome,
    target::Target,
};

/// Options of `rbee reset`.
#[derive(Debug, Args)]
pub struct Reset {
    /// A worker; HIVE/WORKER where several hives have a worker of that name.
    #[arg(value_name = "WORKER")]
    name: String,
}

impl Reset {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus("cli/reset").await?;
        match Target::find(&bus, &self.name).await? {
            Target::Hive { hive, .. } => Err(Outcome::failed(format!(
                "{hive} is a hive: only a worker can be reset, and `rbee ps` lists the workers"
            ))),
            Target::Worker { worker, record, .. } if !waits_for_a_try(record.phase) => Err(Outcome::failed(format!(
                "{worker} is {}: only a worker that is crash-loop, backoff or failed can be reset",
                record.phase.as_str()
            ))),
            Target::Worker { hive, worker, .. } => {
                let reset = HiveCommand::Reset { worker: worker.clone() };
                follow::command(&setting, &bus, &hive, &reset, &Awaited::Spawned(worker)).await
            }
        }
    }
}

fn waits_for_a_try(phase: WorkerPhase) -> bool {
    match phase {
        WorkerPhase::Backoff | WorkerPhase::CrashLoop | WorkerPhase::Failed => true,
        WorkerPhase::Requested
        | WorkerPhase::Spawning
        | WorkerPhase::Loading
        | WorkerPhase::Ready
        | WorkerPhase::Suspect
        | WorkerPhase::Draining
        | WorkerPhase::Stopping => false,
    }
}
