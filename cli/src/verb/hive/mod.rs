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
    Context, config,
    error::CliError,
    metrics, output,
    roles::{DataOptions, HiveOptions, WorkerConnection, prepare_streams},
    signals::Signals,
};

/// Options of `rbee hive`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Hive {
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
    pub(crate) fn told(arguments: Vec<OsString>) -> Result<(HiveName, PathBuf, Rules), CliError> {
        let (cli, _) = config::command_line(arguments)?;
        match cli.verb {
            Verb::Hive(hive) => Ok((hive.hive.name(), hive.data.folder()?, hive.hive.rules())),
            other => Err(CliError::usage(format!("{other:?} runs no hive"))),
        }
    }

    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        match self.elsewhere {
            Some(elsewhere) => elsewhere.run(context).await,
            None => run_here(&self.hive, &self.data, &context).await,
        }
    }
}

async fn run_here(options: &HiveOptions, data: &DataOptions, context: &Context) -> Result<(), CliError> {
    let bus = context.bus(&hive_connection(&options.name())).await?;
    prepare_streams(&bus, None).await?;
    let mut signals = Signals::listen()?;
    let recorded = metrics::start()?;
    let connection = WorkerConnection { nats_url: &context.nats, otlp: context.otlp.as_deref() };
    let mut hive = options.start(data.folder()?, bus.clone(), connection, recorded)?;
    output::print_line(format_args!(
        "the hive is up: NATS {}, metrics {}",
        without_secrets(&context.nats),
        hive.metrics
    ));
    let end = tokio::select! {
        () = signals.next() => hive.stop(&mut signals).await,
        ended = hive.ended() => ended,
    };
    bus.close().await;
    end
}
