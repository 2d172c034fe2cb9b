//! `rbee drain`: a hive or a worker accepts no more jobs, and finishes its own or hands them over.

use clap::Args;
use rbee_schema::{HiveCommand, StopMode};

use crate::{
    Context,
    error::CliError,
    hive_command::{Goal, follow_command},
    output::say,
    target::Target,
};

/// Options of `rbee drain`.
#[derive(Debug, Args)]
#[command(
    after_help = "A draining hive stays connected and accepts no workers until --undo or a restart. The queen may \
                        start a drained worker again, on this or another hive, while its model is in demand or has a \
                        minimum of replicas; `rbee remove` withdraws a model."
)]
pub(crate) struct Drain {
    /// Name of a hive or worker; HIVE/WORKER if several hives have a worker of that name.
    #[arg(value_name = "HIVE|WORKER")]
    name: String,
    /// Let the hive accept workers again.
    #[arg(long)]
    undo: bool,
    /// Hand running jobs over to other workers, which continue them at the next token, instead of letting them finish.
    #[arg(long, conflicts_with = "undo")]
    hand_over: bool,
}

impl Drain {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let bus = context.bus("cli/drain").await?;
        let why = || "`rbee drain` was run".to_owned();
        let mode = StopMode::of_drain(self.hand_over);
        match Target::find(&bus, &self.name).await? {
            Target::Hive { hive, record, .. } if self.undo && !record.draining => {
                say!("{hive} is not draining: it accepts workers");
                Ok(())
            }
            Target::Hive { hive, .. } if self.undo => {
                follow_command(&context, &bus, &hive, &HiveCommand::Resume, &Goal::HiveResumed).await
            }
            Target::Hive { hive, record, workers: 0 } if record.draining => {
                say!("{hive} is already draining and has no workers left");
                Ok(())
            }
            Target::Hive { hive, .. } => {
                let drain = HiveCommand::Drain { why: why(), mode };
                follow_command(&context, &bus, &hive, &drain, &Goal::HiveDrained).await
            }
            Target::Worker { worker, .. } if self.undo => Err(CliError::usage(format!(
                "{worker} is a worker: --undo works for hives only; the queen starts workers again when they are needed"
            ))),
            Target::Worker { hive, worker, .. } => {
                let stop = HiveCommand::Stop { worker: worker.clone(), why: why(), mode };
                follow_command(&context, &bus, &hive, &stop, &Goal::WorkerRemoved(worker)).await
            }
        }
    }
}
