//! `rbee hive`: one role.

use clap::Args;

use crate::{
    Setting,
    fleet::{self, DataOptions, HiveOptions},
    outcome::Outcome,
};

/// Options of `rbee hive`.
#[derive(Debug, Args)]
pub struct Hive {
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    hive: HiveOptions,
}

impl Hive {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let bus = setting.bus("hive").await?;
        fleet::prepare(&bus).await?;
        let mut hive = fleet::hive(&self.hive, self.data.folder()?, &setting.nats, bus.clone())?;
        println!("the hive is up: NATS {}", setting.nats);
        tokio::select! {
            told = fleet::told_to_stop() => told?,
            outcome = hive.ended() => return Err(outcome),
        }
        let end = hive.stop().await;
        bus.close().await;
        end
    }
}
