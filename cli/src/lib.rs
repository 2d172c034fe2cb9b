//! `rbee`, the command line: one verb per file in [`verb`]. A verb is a client of the bus, or runs roles in this process.

mod command_line;
pub mod config;
mod context;
mod error;
mod help;
mod hive_command;
mod host;
mod install;
mod job_output;
mod keeper;
mod logs;
mod metrics;
mod models_file;
mod output;
mod paging;
mod prompt;
mod roles;
mod signals;
mod submission;
mod target;
pub mod verb;
mod worker_program;

use std::{env, process::ExitCode};

pub(crate) use self::{command_line::Cli, context::Context};

/// Runs the command line of this process and returns its exit code.
pub async fn main() -> ExitCode {
    let (cli, config) = match config::command_line(env::args_os().collect()) {
        Ok(parsed) => parsed,
        Err(error) => return error.report(),
    };
    let collector = cli.otlp.as_deref().map(|url| (url, cli.verb.service()));
    let exporter = match logs::start(cli.log_file.as_deref(), cli.verb.log_filter(), collector) {
        Ok(exporter) => exporter,
        Err(error) => return error.report(),
    };
    let (verb, context) = cli.into_parts(config);
    let result = verb.run(context).await;
    if let Some(exporter) = exporter {
        exporter.finish().await;
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
