//! `rbee stop`: a hive or a worker ends.

use clap::Args;
use rbee_schema::{HiveCommand, StopMode};

use crate::{
    Setting,
    follow::{self, Awaited},
    outcome::Outcome,
    target::Target,
};

/// Options of `rbee stop`.
#[derive(Debug, Args)]
#[command(after_help = "Jobs that run are given back and go on elsewhere with what they have; `rbee drain` lets them \
                        finish first. A worker that is stopped may be started anew by the queen, here or elsewhere, \
                        where its model is in demand or has a minimum of replicas; `rbee remove` withdraws a model.")]
pub struct Stop {
    /// A hive or a worker; HIVE/WORKER where several hives have a worker of that name.
    #[arg(value_name = "HIVE|WORKER")]
    name: String,
}

impl Stop {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus("cli/stop").await?;
        let why = "`rbee stop` was given".to_owned();
        match Target::find(&bus, &self.name).await? {
            Target::Hive { hive, record, .. } => {
                let shutdown = HiveCommand::Shutdown { why, epoch: Some(record.epoch) };
                follow::command(&setting, &bus, &hive, &shutdown, &Awaited::Stopped).await
            }
            Target::Worker { hive, worker, .. } => {
                let stop = HiveCommand::Stop { worker: worker.clone(), why, mode: StopMode::Terminate };
                follow::command(&setting, &bus, &hive, &stop, &Awaited::Removed(worker)).await
            }
        }
    }
}
