//! The command line: one verb per file in [`verb`], each a client of the bus, or the roles themselves.

pub mod config;
mod declare;
mod fleet;
mod follow;
mod install;
mod keeper;
mod listing;
mod logs;
mod order;
mod outcome;
mod prompt;
mod show;
mod signals;
mod submission;
mod target;
mod telemetry;
pub mod verb;

use std::{env, path::PathBuf, process::ExitCode, time::Duration};

use clap::{CommandFactory as _, Parser};
use rbee_nats::{Bus, Connection, ConnectionSettings, Namespace};

use crate::outcome::Outcome;

/// One private inference service from the machines you own, on NATS.
#[derive(Debug, Parser)]
#[command(name = "rbee", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done; 1 failed; 2 wrong options or configuration; 3 the job was answered with an error; \
                        69 the bus or the queen does not answer; 75 another hive of this name runs; 130 interrupted."
)]
pub struct Cli {
    /// The configuration file; default: rbee/rbee.toml in the user's configuration folder, else /etc/rbee/rbee.toml.
    /// `rbee config example` prints one.
    #[arg(long, global = true, env = "RBEE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The environment whose sections of the configuration file have precedence.
    #[arg(long, global = true, env = "RBEE_ENV", value_name = "NAME")]
    env: Option<String>,
    /// Where the bus is; several servers of one cluster are separated by commas.
    #[arg(long, global = true, env = "RBEE_NATS", hide_env_values = true, default_value = DEFAULT_NATS, value_name = "URL")]
    nats: String,
    /// The first token of all subjects: several fleets can share one server.
    #[arg(long, global = true, env = "RBEE_NAMESPACE", default_value = "rbee", value_name = "NAME")]
    namespace: Namespace,
    /// How the connection to the bus is dealt with, as NAME=VALUE with commas, such as ping=5s,request=20s. `rbee config
    /// example` lists them with their defaults.
    #[arg(
        long,
        global = true,
        env = "RBEE_CONNECTION",
        default_value = "",
        hide_default_value = true,
        value_name = "NAME=VALUE"
    )]
    connection: ConnectionSettings,
    /// How long nothing may be heard before a verb that waits gives up, such as 5m; default: a minute, and a quarter of an
    /// hour for an answer.
    #[arg(long, global = true, env = "RBEE_PATIENCE", value_parser = rbee_schema::parse_duration, value_name = "TIME")]
    patience: Option<Duration>,
    /// Print JSON for programs instead of tables and text for people.
    #[arg(long, global = true)]
    json: bool,
    /// Append log lines to a file instead of writing them to standard error.
    #[arg(long, global = true, env = "RBEE_LOG_FILE", value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// Send spans to a collector with OTLP over HTTP, such as http://127.0.0.1:4318: what became of a job, across queen, hive
    /// and worker. A hive tells its workers too.
    #[arg(long, global = true, env = "RBEE_OTLP", hide_env_values = true, value_name = "URL")]
    otlp: Option<String>,
    #[command(subcommand)]
    verb: verb::Verb,
}

const DEFAULT_NATS: &str = "nats://127.0.0.1:4222";

/// What every verb is given.
#[derive(Debug, Clone)]
pub struct Setting {
    nats: String,
    namespace: Namespace,
    connection: ConnectionSettings,
    patience: Option<Duration>,
    json: bool,
    otlp: Option<String>,
    asked: config::Asked,
}

impl Setting {
    /// Connects to the bus as `role`.
    async fn bus(&self, role: &str) -> Result<Bus, Outcome> {
        self.bus_at(&self.nats, role).await
    }

    async fn bus_at(&self, url: &str, role: &str) -> Result<Bus, Outcome> {
        let (url, name, namespace) = (url.to_owned(), role.to_owned(), self.namespace.clone());
        let connection = Connection { url, name, namespace, settings: self.connection.clone() };
        Bus::connect(&connection).await.map_err(Outcome::unavailable)
    }

    /// How long nothing may be heard; `otherwise` where nobody has said.
    fn patience(&self, otherwise: Duration) -> Duration {
        self.patience.unwrap_or(otherwise)
    }
}

/// Runs the command line and returns its exit code.
pub async fn main() -> ExitCode {
    let (cli, asked) = match config::command_line(env::args_os().collect()) {
        Ok(read) => read,
        Err(outcome) => return outcome.report(),
    };
    let collector = cli.otlp.as_deref().map(|url| (url, cli.verb.service()));
    let exporter = match logs::start(cli.log_file.as_deref(), cli.verb.log_filter(), collector) {
        Ok(exporter) => exporter,
        Err(outcome) => return outcome.report(),
    };
    let Cli { nats, namespace, connection, patience, json, otlp, .. } = cli;
    let setting = Setting { nats, namespace, connection, patience, json, otlp, asked };
    let ended = cli.verb.run(setting).await;
    if let Some(exporter) = exporter {
        exporter.finish().await;
    }
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(outcome) => outcome.report(),
    }
}

/// The help of every verb, as one text.
pub fn help() -> String {
    let mut root = Cli::command().term_width(100);
    let mut text = root.render_long_help().to_string();
    add_verbs(&root, "rbee", &mut text);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n") + "\n"
}

fn add_verbs(command: &clap::Command, path: &str, text: &mut String) {
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let mut verb = verb.clone().term_width(100);
        let path = format!("{path} {}", verb.get_name());
        text.push_str(&format!("\n---- {path}\n\n{}", verb.render_long_help()));
        add_verbs(&verb, &path, text);
    }
}
