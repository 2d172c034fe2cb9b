//! `rbee hive`: one role, in this process or installed on another machine.

mod elsewhere;
mod found;
mod place;
mod plan;
mod programs;
mod script;
mod settings;
mod ssh;
mod unit;
mod work;

use std::{ffi::OsString, path::PathBuf};

use clap::Args;
use rbee_hive::decide::rules::Rules;
use rbee_nats::{hive_connection, without_secrets};
use rbee_schema::HiveName;

use self::elsewhere::Elsewhere;
use super::Verb;
use crate::{
    Setting, config,
    fleet::{self, DataOptions, HiveOptions},
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
    elsewhere: Option<Elsewhere>,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    hive: HiveOptions,
}

impl Hive {
    /// Whether it runs a hive in this process.
    pub(super) fn is_role(&self) -> bool {
        self.elsewhere.is_none()
    }

    /// The hive that a process with these arguments would run, its data folder, and the rules that it keeps to. Ends the
    /// process as the parser does where one of its options is wrong.
    pub(crate) fn told(arguments: Vec<OsString>) -> Result<(HiveName, PathBuf, Rules), Outcome> {
        let (cli, _) = config::command_line(arguments)?;
        match cli.verb {
            Verb::Hive(hive) => Ok((hive.hive.name(), hive.data.folder()?, hive.hive.rules())),
            other => Err(Outcome::usage(format!("{other:?} runs no hive"))),
        }
    }

    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        match self.elsewhere {
            Some(elsewhere) => elsewhere.run(setting).await,
            None => run_here(&self.hive, &self.data, &setting).await,
        }
    }
}

async fn run_here(options: &HiveOptions, data: &DataOptions, setting: &Setting) -> Result<(), Outcome> {
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
