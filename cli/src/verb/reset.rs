//! `rbee reset`: starts a worker again that is in a crash loop or in restart backoff.

use clap::Args;
use rbee_schema::{HiveCommand, WorkerPhase};

use crate::{
    Context,
    error::CliError,
    hive_command::{Goal, follow_command},
    target::Target,
};

/// Options of `rbee reset`.
#[derive(Debug, Args)]
pub(crate) struct Reset {
    /// Name of a worker; HIVE/WORKER if several hives have a worker of that name.
    #[arg(value_name = "WORKER")]
    name: String,
}

impl Reset {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/reset").await?;
        match Target::find(&bus, &self.name).await? {
            Target::Hive { hive, .. } => Err(CliError::failed(format!(
                "{hive} is a hive: only a worker can be reset; `rbee ps` lists the workers"
            ))),
            Target::Worker { worker, record, .. } if !waits_for_restart(record.phase) => {
                Err(CliError::failed(format!(
                    "{worker} is {}: only a worker in crash-loop, backoff or failed can be reset",
                    record.phase.as_str()
                )))
            }
            Target::Worker { hive, worker, .. } => {
                let reset = HiveCommand::Reset { worker: worker.clone() };
                follow_command(&context, &bus, &hive, &reset, &Goal::WorkerStarted(worker)).await
            }
        }
    }
}

fn waits_for_restart(phase: WorkerPhase) -> bool {
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
