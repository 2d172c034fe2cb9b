//! The options of an installed hive, as the variables that it reads when it starts.

use std::{env, net::SocketAddr, str::FromStr};

use clap::Args;
use rbee_hive::decide::timers::Timers;
use rbee_schema::{ByteSize, HiveName, check_labels, parse_label};

use crate::{Context, error::CliError, roles::parse_port_range};

/// What the hive may be told. Whatever else it takes is given as a variable.
#[derive(Debug, Clone, Args)]
pub(super) struct Settings {
    /// The hive's name; default: the machine's.
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<HiveName>,
    /// Where the bus is, as that machine sees it; default: what --nats says.
    #[arg(long, value_name = "URL")]
    hive_nats: Option<String>,
    /// The ports that workers may get, as FIRST-LAST.
    #[arg(long, value_parser = |text: &str| parse_port_range(text).map(|_| text.to_owned()), value_name = "RANGE")]
    ports: Option<String>,
    /// Where metrics and health are served.
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// How many workers the hive runs at most.
    #[arg(long, value_name = "N")]
    max_workers: Option<u32>,
    /// The memory that a worker may use where its model's declaration does not say, such as 8GiB.
    #[arg(long, value_parser = valid::<ByteSize>, value_name = "SIZE")]
    worker_memory: Option<String>,
    /// What the hive is called by, as NAME=VALUE with commas.
    #[arg(long, value_delimiter = ',', value_parser = parse_label, value_name = "LABELS")]
    labels: Vec<(String, String)>,
    /// How long the hive waits for what, as NAME=DURATION with commas.
    #[arg(long, value_parser = valid::<Timers>, value_name = "TIMERS")]
    timers: Option<String>,
    /// The hive's data folder on that machine.
    #[arg(long, value_name = "FOLDER")]
    pub(super) data: Option<String>,
    /// A further variable for the hive: NAME=VALUE, or NAME alone for what it holds here, such as HF_TOKEN.
    #[arg(long = "variable", value_parser = variable, value_name = "VARIABLE")]
    variables: Vec<(String, Option<String>)>,
}

/// Takes the text of something as it is, when it is that.
fn valid<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<String, String> {
    text.parse::<T>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Reads `NAME=VALUE` or `NAME`.
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
        Err(format!("`{name}` is no name of a variable: expected NAME=VALUE or NAME, such as HF_TOKEN"))
    }
}

impl Settings {
    /// Where the hive finds the bus.
    pub(super) fn nats<'a>(&'a self, context: &'a Context) -> &'a str {
        self.hive_nats.as_deref().unwrap_or(&context.nats)
    }

    /// The file of variables, as systemd and a shell both read it.
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

/// Between single quotes systemd and a shell take everything as it is, but for what ends them.
fn write(variables: &[(&str, String)]) -> Result<String, String> {
    let mut text =
        "# Written by `rbee hive install`. Every option of `rbee hive --help` has its variable.\n".to_owned();
    for (name, value) in variables {
        if value.contains(|c: char| c == '\'' || c == '\\' || c.is_control()) {
            return Err(format!(
                "{name} holds a quote, a backslash or a line's end, which a file of variables cannot hold: give it \
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
        settings: Settings,
    }

    fn text(arguments: &[&str]) -> Result<String, CliError> {
        let line = Line::try_parse_from([&["x"], arguments].concat()).expect("options");
        let context = Context {
            nats: "nats://user:word@one:4222".to_owned(),
            namespace: "rbee".parse().expect("a name"),
            connection: ConnectionSettings::default(),
            patience: None,
            json: false,
            otlp: None,
            config: crate::config::ConfigRequest::default(),
        };
        line.settings.text(&context, &"attic".parse().expect("a name"), "/data")
    }

    #[test]
    fn what_is_given_becomes_a_variable_and_what_is_not_is_left_to_the_hive() {
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
    fn what_the_file_cannot_hold_is_refused() {
        for wrong in ["X=it's", "X=a\\b", "X=a\nb", "RBEE_TEST_THAT_IS_NOT_SET"] {
            let refused = text(&["--variable", wrong]).expect_err(wrong);
            assert!(refused.message().contains("X holds") || refused.message().contains("NOT_SET"), "{refused:?}");
        }
        for wrong in [["--ports", "0"], ["--timers", "hush=1s"], ["--worker-memory", "much"], ["--variable", "a b=c"]] {
            assert!(Line::try_parse_from([&["x"], wrong.as_slice()].concat()).is_err(), "{wrong:?}");
        }
    }
}
