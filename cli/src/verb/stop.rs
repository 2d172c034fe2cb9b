//! `rbee stop`: stops a hive or a worker.

use clap::Args;
use rbee_schema::{HiveCommand, StopMode};

use crate::{
    Context,
    error::CliError,
    hive_command::{Goal, follow_command},
    target::Target,
};

/// Options of `rbee stop`.
#[derive(Debug, Args)]
#[command(
    after_help = "Running jobs return to the queue and continue on another worker with the output they have; `rbee \
                        drain` lets them finish first. The queen may start a stopped worker again, on this or another \
                        hive, while its model is in demand or has a minimum of replicas; `rbee remove` withdraws a model."
)]
pub(crate) struct Stop {
    /// Name of a hive or worker; HIVE/WORKER if several hives have a worker of that name.
    #[arg(value_name = "HIVE|WORKER")]
    name: String,
}

impl Stop {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/stop").await?;
        let why = "`rbee stop` was run".to_owned();
        match Target::find(&bus, &self.name).await? {
            Target::Hive { hive, record, .. } => {
                let shutdown = HiveCommand::Shutdown { why, epoch: Some(record.epoch) };
                follow_command(&context, &bus, &hive, &shutdown, &Goal::HiveStopped).await
            }
            Target::Worker { hive, worker, .. } => {
                let stop = HiveCommand::Stop { worker: worker.clone(), why, mode: StopMode::Terminate };
                follow_command(&context, &bus, &hive, &stop, &Goal::WorkerRemoved(worker)).await
            }
        }
    }
}
