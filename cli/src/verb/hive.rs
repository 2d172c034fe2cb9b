//! `rbee hive`: runs a hive in this process, or manages one on another machine.

use std::{ffi::OsString, path::PathBuf};

use clap::Args;
use rbee_hive::decide::rules::Rules;
use rbee_nats::{hive_connection, without_secrets};
use rbee_schema::HiveName;

use super::Verb;
use crate::{
    Setting, config,
    fleet::{self, DataOptions, HiveOptions},
    install::RemoteHive,
    outcome::Outcome,
    show,
    signals::Signals,
    telemetry,
};

/// Options of `rbee hive`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Hive {
    #[command(subcommand)]
    remote: Option<RemoteHive>,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    hive: HiveOptions,
}

impl Hive {
    /// True if the command runs a hive in this process.
    pub(super) fn is_role(&self) -> bool {
        self.remote.is_none()
    }

    /// Parses the command line of a hive process: its name, its data folder, and its rules.
    ///
    /// # Errors
    /// The arguments do not run a hive. An invalid option exits the process, as the parser does.
    pub(crate) fn parse(arguments: Vec<OsString>) -> Result<(HiveName, PathBuf, Rules), Outcome> {
        let (cli, _) = config::command_line(arguments)?;
        match cli.verb {
            Verb::Hive(hive) => Ok((hive.hive.name(), hive.data.folder()?, hive.hive.rules())),
            other => Err(Outcome::usage(format!("{other:?} does not run a hive"))),
        }
    }

    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        match self.remote {
            Some(remote) => remote.run(setting).await,
            None => run_local(&self.hive, &self.data, &setting).await,
        }
    }
}

async fn run_local(options: &HiveOptions, data: &DataOptions, setting: &Setting) -> Result<(), Outcome> {
    let bus = setting.bus(&hive_connection(&options.name())).await?;
    fleet::prepare(&bus, None).await?;
    let mut signals = Signals::listen()?;
    let recorded = telemetry::start()?;
    let mut hive = fleet::hive(options, data.folder()?, &setting.nats, setting.otlp.as_deref(), bus.clone(), recorded)?;
    show::say(format_args!("the hive is up: NATS {}, metrics {}", without_secrets(&setting.nats), hive.metrics));
    let end = tokio::select! {
        () = signals.next() => hive.stop(&mut signals).await,
        ended = hive.ended() => ended,
    };
    bus.close().await;
    end
}
