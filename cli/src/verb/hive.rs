//! `rbee hive`: one role.

use clap::Args;
use rbee_nats::hive_connection;

use crate::{
    Setting,
    fleet::{self, DataOptions, HiveOptions},
    outcome::Outcome,
    show,
    signals::Signals,
    telemetry,
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
        let bus = setting.bus(&hive_connection(&self.hive.name())).await?;
        fleet::prepare(&bus).await?;
        let mut signals = Signals::listen()?;
        let recorded = telemetry::start()?;
        let mut hive = fleet::hive(&self.hive, self.data.folder()?, &setting.nats, bus.clone(), recorded)?;
        show::say(format_args!("the hive is up: NATS {}, metrics {}", setting.nats, hive.metrics));
        let end = tokio::select! {
            () = signals.next() => hive.stop(&mut signals).await,
            ended = hive.ended() => ended,
        };
        bus.close().await;
        end
    }
}
