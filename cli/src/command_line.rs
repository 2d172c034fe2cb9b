//! Declaration of the command line: the options that every verb has, and the verbs.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use rbee_nats::{ConnectionSettings, Namespace};

use crate::{Context, config::ConfigRequest, verb::Verb};

/// URL of the bus without configuration: the nats-server that `rbee up` starts.
pub(crate) const DEFAULT_NATS: &str = "nats://127.0.0.1:4222";

/// Heading of the options that every verb has.
const EVERY_VERB: &str = "Options of every verb";

/// One private inference service from the machines you own, on NATS.
#[derive(Debug, Parser)]
#[command(name = "rbee", version, propagate_version = true, max_term_width = 120)]
#[command(
    after_help = "Exit codes: 0 success; 1 failure; 2 invalid options or configuration; 3 the job failed; 69 the bus or the \
                  queen does not answer; 75 another hive of this name is running; 130 interrupted."
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
    pub(crate) config: Option<PathBuf>,
    /// Apply the sections [env.NAME] of the configuration file over the others.
    #[arg(long, global = true, env = "RBEE_ENV", hide_env_values = true, value_name = "NAME", help_heading = EVERY_VERB)]
    pub(crate) env: Option<String>,
    /// Append log lines to this file instead of writing them to standard error.
    #[arg(long, global = true, env = "RBEE_LOG_FILE", hide_env_values = true, value_name = "FILE",
          help_heading = EVERY_VERB)]
    pub(crate) log_file: Option<PathBuf>,
    /// Send traces of jobs to an OTLP collector over HTTP, such as http://127.0.0.1:4318.
    #[arg(long, global = true, env = "RBEE_OTLP", hide_env_values = true, value_name = "URL", help_heading = EVERY_VERB)]
    pub(crate) otlp: Option<String>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

impl Cli {
    /// The verb, and the options that it shares with all others.
    pub(crate) fn into_parts(self, config: ConfigRequest) -> (Verb, Context) {
        let Self { nats, namespace, connection, patience, json, otlp, verb, .. } = self;
        (verb, Context { nats, namespace, connection, patience, json, otlp, config })
    }
}
