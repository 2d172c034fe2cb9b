//! The command line: the options that every verb has, the verbs, and how it is parsed with a configuration file.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Command, CommandFactory as _, FromArgMatches as _, Parser};
use rbee_nats::{ConnectionSettings, Namespace};
use tokio::sync::watch;

use crate::{
    Context,
    config::{ConfigRequest, Configuration, FILE_VERB, Origin, origin},
    context::DEFAULT_NATS,
    error::CliError,
    help, parse_error,
    verb::Verb,
};

/// Heading of the options that every verb has.
const EVERY_VERB: &str = "Options of every verb";

/// One private inference service from the machines you own, on NATS.
#[derive(Debug, Parser)]
#[command(name = "rbee", version, propagate_version = true, max_term_width = 120)]
#[command(
    after_help = "Exit codes: 0 success; 1 failure; 2 invalid options or configuration; 3 the job failed; 69 the bus or the \
                  queen does not answer; 75 another hive of this name, or another `rbee up` on this data, is running; \
                  77 the server does not permit it; 130 interrupted."
)]
pub(crate) struct Cli {
    /// Connect to the bus at this URL. Separate the servers of a cluster with commas.
    #[arg(long, global = true, env = "RBEE_NATS", hide_env_values = true, default_value = DEFAULT_NATS, value_name = "URL",
          help_heading = EVERY_VERB)]
    nats: String,
    /// First token of all subjects. Fleets with different namespaces can share one server.
    #[arg(long, global = true, env = "RBEE_NAMESPACE", hide_env_values = true, default_value = "rbee",
          value_name = "NAME", help_heading = EVERY_VERB)]
    namespace: Namespace,
    /// Timeouts of the connection to the bus (NAME=VALUE,...), such as ping=5s,request=20s.
    #[arg(long, global = true, hide = true, env = "RBEE_CONNECTION", default_value = "", value_name = "NAME=VALUE")]
    connection: ConnectionSettings,
    /// Give up after this long without an event or output [default: 1m; 15m for answers].
    #[arg(long, global = true, env = "RBEE_PATIENCE", hide_env_values = true, value_parser = rbee_schema::parse_duration,
          value_name = "TIME", help_heading = EVERY_VERB)]
    patience: Option<Duration>,
    /// Print JSON instead of tables and text.
    #[arg(long, global = true, help_heading = EVERY_VERB)]
    json: bool,
    /// Read this configuration file [default: ~/.config/rbee/rbee.toml, else /etc/rbee/rbee.toml].
    #[arg(long, global = true, env = "RBEE_CONFIG", hide_env_values = true, value_name = "FILE",
          help_heading = EVERY_VERB)]
    config: Option<PathBuf>,
    /// Apply the sections [env.NAME] of the configuration file over the others.
    #[arg(long, global = true, env = "RBEE_ENV", hide_env_values = true, value_name = "NAME", help_heading = EVERY_VERB)]
    env: Option<String>,
    /// Append log lines to this file instead of writing them to standard error.
    #[arg(long, global = true, env = "RBEE_LOG_FILE", hide_env_values = true, value_name = "FILE",
          help_heading = EVERY_VERB)]
    log_file: Option<PathBuf>,
    /// Send traces of jobs to an OTLP collector over HTTP, such as http://127.0.0.1:4318.
    #[arg(long, global = true, env = "RBEE_OTLP", hide_env_values = true, value_name = "URL", help_heading = EVERY_VERB)]
    otlp: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

/// Declaration of the command line, with verbs grouped by task in its help.
pub(crate) fn command() -> Command {
    help::with_groups(Cli::command())
}

impl Cli {
    /// Parses the command line, with the values of the configuration file as defaults. Exits the process as clap does for
    /// `--help` and for invalid options.
    ///
    /// # Errors
    /// The configuration is invalid, unreadable or missing.
    pub(crate) fn parse_with_file(arguments: Vec<OsString>) -> Result<(Verb, Context), CliError> {
        // The first pass finds the file, and answers `--help` whatever is wrong with the file. Invalid options are reported
        // by the second pass, which has the defaults of the file.
        let declaration = command();
        let first = declaration.clone().ignore_errors(true).try_get_matches_from(&arguments);
        let first = first.unwrap_or_else(|error| error.exit());
        let request = ConfigRequest::new(&declaration, &first);
        let configuration = match first.subcommand_name() {
            // `rbee config` reports the mistakes of the file itself.
            Some(FILE_VERB) => Configuration::default(),
            _ => request.configuration(&declaration)?,
        };
        let command = configuration.defaults.apply(declaration.clone());
        let matches = command.try_get_matches_from(arguments).unwrap_or_else(|error| parse_error::exit(&error));
        let cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| parse_error::exit(&error));
        let nats_origin = origin(&declaration, &matches, &configuration, "nats");
        Ok(cli.into_parts(request, nats_origin, declaration))
    }

    /// The verb, and the options that it shares with all others.
    fn into_parts(self, config: ConfigRequest, nats_origin: Origin, command: Command) -> (Verb, Context) {
        let Self { nats, namespace, connection, patience, json, log_file, otlp, verb, .. } = self;
        let denied = watch::Sender::new(None);
        let context = Context {
            nats,
            nats_origin,
            namespace,
            connection,
            patience,
            json,
            log_file,
            otlp,
            config,
            command,
            denied,
        };
        (verb, context)
    }
}
