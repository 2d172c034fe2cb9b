//! Options of an installed hive, written as the environment variables that it reads at start.

use std::{env, net::SocketAddr, str::FromStr};

use clap::Args;
use rbee_hive::decide::timers::Timers;
use rbee_schema::{ByteSize, HiveName, check_labels, parse_label};

use crate::{Context, error::CliError, roles::parse_port_range};

/// Options with a flag of their own. All others are passed with `--variable`.
#[derive(Debug, Clone, Args)]
pub(super) struct HiveSettings {
    /// Name of the hive; default: the machine's host name.
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<HiveName>,
    /// Address of the bus as seen from that machine; default: the value of --nats.
    #[arg(long, value_name = "URL")]
    hive_nats: Option<String>,
    /// Ports that workers may use, as FIRST-LAST.
    #[arg(long, value_parser = |text: &str| parse_port_range(text).map(|_| text.to_owned()), value_name = "RANGE")]
    ports: Option<String>,
    /// Address at which metrics and health are served.
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// Maximum number of workers on the hive.
    #[arg(long, value_name = "N")]
    max_workers: Option<u32>,
    /// Memory limit of workers whose declaration has none, such as 8GiB.
    #[arg(long, value_parser = valid::<ByteSize>, value_name = "SIZE")]
    worker_memory: Option<String>,
    /// Labels of the hive, as NAME=VALUE separated by commas. Declarations select hives by them.
    #[arg(long, value_delimiter = ',', value_parser = parse_label, value_name = "LABELS")]
    labels: Vec<(String, String)>,
    /// Timers of the hive, as NAME=DURATION separated by commas.
    #[arg(long, value_parser = valid::<Timers>, value_name = "TIMERS")]
    timers: Option<String>,
    /// Data folder of the hive on that machine.
    #[arg(long, value_name = "FOLDER")]
    pub(super) data: Option<String>,
    /// Another environment variable for the hive: NAME=VALUE, or NAME to pass on the value it has here, such as HF_TOKEN.
    #[arg(long = "variable", value_parser = variable, value_name = "VARIABLE")]
    variables: Vec<(String, Option<String>)>,
}

/// Returns the text unchanged if it parses as a `T`.
fn valid<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<String, String> {
    text.parse::<T>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Parses `NAME=VALUE` or `NAME`.
fn variable(text: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_name {
        Ok((name.to_owned(), value))
    } else {
        Err(format!("`{name}` is not a variable name: expected NAME=VALUE or NAME, such as HF_TOKEN"))
    }
}

impl HiveSettings {
    /// Address of the bus for the hive.
    pub(super) fn nats<'a>(&'a self, context: &'a Context) -> &'a str {
        self.hive_nats.as_deref().unwrap_or(&context.nats)
    }

    /// Text of the environment file, in a form that systemd and a shell both read.
    ///
    /// # Errors
    /// A label is invalid, a variable is not set here, or a value cannot be quoted.
    pub(super) fn text(&self, context: &Context, hive: &HiveName, data: &str) -> Result<String, CliError> {
        check_labels(&self.labels.iter().cloned().collect()).map_err(CliError::usage)?;
        let labels: Vec<String> = self.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let namespace = context.namespace.to_string();
        let mut variables = vec![
            ("RBEE_NATS", self.nats(context).to_owned()),
            ("RBEE_HIVE", hive.to_string()),
            ("RBEE_DATA", data.to_owned()),
        ];
        let given = [
            ("RBEE_NAMESPACE", (namespace != "rbee").then_some(namespace)),
            ("RBEE_PORTS", self.ports.clone()),
            ("RBEE_METRICS", self.metrics.map(|address| address.to_string())),
            ("RBEE_MAX_WORKERS", self.max_workers.map(|count| count.to_string())),
            ("RBEE_WORKER_MEMORY", self.worker_memory.clone()),
            ("RBEE_LABELS", (!labels.is_empty()).then(|| labels.join(","))),
            ("RBEE_TIMERS", self.timers.clone()),
        ];
        variables.extend(given.into_iter().filter_map(|(name, value)| Some((name, value?))));
        for (name, value) in &self.variables {
            let value = match value {
                Some(value) => value.clone(),
                None => env::var(name).map_err(|error| CliError::usage(format!("--variable {name}: {error}")))?,
            };
            variables.push((name, value));
        }
        write(&variables).map_err(CliError::usage)
    }
}

/// Writes the variables in single quotes, which systemd and a shell both take literally.
fn write(variables: &[(&str, String)]) -> Result<String, String> {
    let mut text =
        "# FilesToWrite by `rbee hive install`. Every option of `rbee hive --help` has its variable.\n".to_owned();
    for (name, value) in variables {
        if value.contains(|c: char| c == '\'' || c == '\\' || c.is_control()) {
            return Err(format!(
                "{name} holds a quote, a backslash or a line break, which an environment file cannot hold: choose \
                 another value"
            ));
        }
        text.push_str(&format!("{name}='{value}'\n"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rbee_nats::ConnectionSettings;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        settings: HiveSettings,
    }

    fn text(arguments: &[&str]) -> Result<String, CliError> {
        let line = Line::try_parse_from([&["x"], arguments].concat()).expect("options");
        let context = Context {
            nats: "nats://user:word@one:4222".to_owned(),
            nats_origin: crate::config::Origin::Default,
            namespace: "rbee".parse().expect("a name"),
            connection: ConnectionSettings::default(),
            patience: None,
            json: false,
            log_file: None,
            otlp: None,
            config: crate::config::ConfigRequest::default(),
            command: clap::Command::new("rbee"),
            denied: tokio::sync::watch::Sender::new(None),
        };
        line.settings.text(&context, &"attic".parse().expect("a name"), "/data")
    }

    #[test]
    fn only_given_options_are_written_as_variables() {
        let nothing = text(&[]).expect("settings");
        let lines: Vec<&str> = nothing.lines().skip(1).collect();
        assert_eq!(lines, ["RBEE_NATS='nats://user:word@one:4222'", "RBEE_HIVE='attic'", "RBEE_DATA='/data'"]);
        let arguments =
            ["--ports", "80-90", "--labels", "a=b,c=d", "--variable", "X= y $z", "--hive-nats", "nats://two"];
        let given = text(&arguments).expect("settings");
        for line in ["RBEE_PORTS='80-90'", "RBEE_LABELS='a=b,c=d'", "X=' y $z'", "RBEE_NATS='nats://two'"] {
            assert!(given.lines().any(|found| found == line), "{line} in {given}");
        }
    }

    #[test]
    fn values_that_cannot_be_quoted_are_refused() {
        for wrong in ["X=it's", "X=a\\b", "X=a\nb", "RBEE_TEST_THAT_IS_NOT_SET"] {
            let refused = text(&["--variable", wrong]).expect_err(wrong);
            assert!(refused.message().contains("X holds") || refused.message().contains("NOT_SET"), "{refused:?}");
        }
        for wrong in [["--ports", "0"], ["--timers", "hush=1s"], ["--worker-memory", "much"], ["--variable", "a b=c"]] {
            assert!(Line::try_parse_from([&["x"], wrong.as_slice()].concat()).is_err(), "{wrong:?}");
        }
    }
}
