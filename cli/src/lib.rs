//! `rbee`, the command line: one verb per file in [`verb`]. A verb is a client of the bus, or runs roles in this process.

mod command_line;
mod config;
mod context;
mod error;
mod generated;
mod help;
mod hive_command;
mod host;
mod install;
mod job_output;
mod job_story;
mod keeper;
mod logs;
mod metrics;
mod models_file;
mod output;
mod paging;
mod parse_error;
mod prompt;
mod reference;
mod roles;
mod signals;
mod submission;
mod target;
mod verb;
mod waiting;
mod worker_program;

use std::{env, process::ExitCode};

pub(crate) use self::context::Context;
pub use self::generated::{example_config, generated_schemas};
use self::{command_line::Cli, error::CliError, verb::Verb};

/// Runs the verb of a client. It ends as soon as the server does not permit what it needs.
async fn run_client(verb: Verb, context: Context) -> Result<(), CliError> {
    let mut denied = context.denied.subscribe();
    tokio::select! {
        biased;
        result = verb.run(context) => result,
        Ok(denial) = denied.wait_for(Option::is_some) => {
            Err(denial.as_ref().map_or_else(|| CliError::failed("the server denied an operation"), CliError::denied))
        }
    }
}

/// Runs the command line of this process and returns its exit code.
pub async fn main() -> ExitCode {
    let (verb, context) = match Cli::parse_with_file(env::args_os().collect()) {
        Ok(parsed) => parsed,
        Err(error) => return error.report(),
    };
    let collector = context.otlp.as_deref().map(|url| (url, verb.service()));
    let exporter = match logs::start(context.log_file.as_deref(), verb.log_filter(), collector) {
        Ok(exporter) => exporter,
        Err(error) => return error.report(),
    };
    let result = if verb.is_role() { verb.run(context).await } else { run_client(verb, context).await };
    if let Some(exporter) = exporter {
        exporter.finish().await;
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
