//! `rbee drain`: a hive or a worker finishes its jobs and takes no more.

use clap::Args;
use rbee_schema::{HiveCommand, StopMode};

use crate::{
    Setting,
    follow::{self, Awaited},
    outcome::Outcome,
    target::Target,
};

/// Options of `rbee drain`.
#[derive(Debug, Args)]
#[command(after_help = "A hive that drains stays connected and takes no workers until --undo, or until it is started \
                        anew. A worker that is drained may be started anew by the queen, here or elsewhere, where its \
                        model is in demand or has a minimum of replicas; `rbee remove` withdraws a model.")]
pub struct Drain {
    /// A hive or a worker; HIVE/WORKER where several hives have a worker of that name.
    #[arg(value_name = "HIVE|WORKER")]
    name: String,
    /// The hive takes workers again.
    #[arg(long)]
    undo: bool,
}

impl Drain {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus("cli/drain").await?;
        let why = || "`rbee drain` was given".to_owned();
        match Target::find(&bus, &self.name).await? {
            Target::Hive { hive, record, .. } if self.undo && !record.draining => {
                println!("{hive} does not drain: it takes workers");
                Ok(())
            }
            Target::Hive { hive, .. } if self.undo => {
                follow::command(&setting, &bus, &hive, &HiveCommand::Resume, &Awaited::Resumed).await
            }
            Target::Hive { hive, record, workers: 0 } if record.draining => {
                println!("{hive} drains already and has no workers left");
                Ok(())
            }
            Target::Hive { hive, .. } => {
                let drain = HiveCommand::Drain { why: why() };
                follow::command(&setting, &bus, &hive, &drain, &Awaited::Drained).await
            }
            Target::Worker { worker, .. } if self.undo => Err(Outcome::usage(format!(
                "{worker} is a worker: only the drain of a hive can be undone; the queen starts workers by herself"
            ))),
            Target::Worker { hive, worker, .. } => {
                let stop = HiveCommand::Stop { worker: worker.clone(), why: why(), mode: StopMode::Drain };
                follow::command(&setting, &bus, &hive, &stop, &Awaited::Removed(worker)).await
            }
        }
    }
}
