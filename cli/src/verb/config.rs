//! `rbee config`: checks or shows the configuration, or prints an example.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Subcommand, builder::PossibleValuesParser};
use serde_json::json;

use crate::{
    Context,
    config::{self, ConfigRequest, Configuration, EffectiveValue, Mistake, Origin, effective, report},
    error::CliError,
    output,
    output::say,
};

/// Options of `rbee config`.
#[derive(Debug, Args)]
#[command(after_help = "rbee reads the file that --config or RBEE_CONFIG names, else ~/.config/rbee/rbee.toml, else \
                        /etc/rbee/rbee.toml. Begin with `rbee config example >~/.config/rbee/rbee.toml`: every line of the \
                        example is a comment until you remove its #.")]
pub(crate) struct Config {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Report every mistake in a configuration file, including its environments
    Check {
        /// File to check [default: the file that rbee would read].
        file: Option<PathBuf>,
    },
    /// Print the values that a role would use and where each comes from; passwords are redacted
    Show {
        /// Role to show; `up` runs all roles.
        #[arg(long, default_value = "up", value_parser = PossibleValuesParser::new(config::ROLE_VERBS), value_name = "ROLE")]
        role: String,
        /// Options that the role would be started with.
        #[arg(last = true, value_name = "OPTIONS")]
        options: Vec<OsString>,
    },
    /// Print a file with the default and description of each key
    Example {
        /// Print every key, including those for unusual networks and tests.
        #[arg(long)]
        all: bool,
    },
}

impl Config {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        match self.action {
            Action::Check { file } => check(file, context),
            Action::Show { role, options } => show(&role, options, context),
            Action::Example { all } => {
                let command = &context.command;
                let example = if all { config::full_example(command) } else { config::example(command) };
                output::print_or_end(format_args!("{example}"));
                Ok(())
            }
        }
    }
}

fn check(named: Option<PathBuf>, context: &Context) -> Result<(), CliError> {
    let request = ConfigRequest { file: named.or_else(|| context.config.file.clone()), ..context.config.clone() };
    let file = request.source().read()?;
    let read = file.as_ref().map(|file| config::read(&file.text, &context.command));
    let mistakes = read.and_then(Result::err).unwrap_or_default();
    if context.json {
        let path = file.as_ref().map(|file| file.path.display().to_string());
        output::json(&json!({ "file": path, "mistakes": mistakes.iter().map(mistake_json).collect::<Vec<_>>() }));
    }
    if let (Some(file), false) = (file, mistakes.is_empty()) {
        let report = if context.json { String::new() } else { report(&file.path, &mistakes) };
        return Err(CliError::usage(report));
    }
    // Also fails if the environment of --env does not exist.
    let configuration = request.configuration(&context.command)?;
    if !context.json {
        print_valid(&configuration, &request);
    }
    Ok(())
}

fn print_valid(configuration: &Configuration, request: &ConfigRequest) {
    let environments: Vec<&str> = configuration.values.environments().collect();
    match (&configuration.file, environments.as_slice()) {
        (None, _) => say!("{}", request.source().describe_absence()),
        (Some(file), []) => say!("{} is valid", file.display()),
        (Some(file), names) => say!("{} is valid, with environments {}", file.display(), names.join(", ")),
    }
}

fn mistake_json(mistake: &Mistake) -> serde_json::Value {
    json!({ "line": mistake.line, "column": mistake.column, "key": mistake.key, "message": mistake.problem.to_string() })
}

fn show(role: &str, options: Vec<OsString>, context: &Context) -> Result<(), CliError> {
    let configuration = context.config.configuration(&context.command)?;
    let program = std::iter::once(OsString::from("rbee"));
    let arguments = program.chain(context.config.options.clone()).chain([role.into()]).chain(options).collect();
    let values = effective(&context.command, arguments, &configuration.defaults, configuration.file.as_deref());
    let values = values.unwrap_or_else(|error| error.exit());
    if context.json {
        output::json(&json!({
            "file": configuration.file,
            "environment": context.config.environment,
            "values": values.iter().map(value_json).collect::<Vec<_>>(),
        }));
        return Ok(());
    }
    match (&configuration.file, &context.config.environment) {
        (None, _) => say!("{}\n", context.config.source().describe_absence()),
        (Some(file), None) => say!("configuration file {}\n", file.display()),
        (Some(file), Some(name)) => say!("configuration file {}, environment {name}\n", file.display()),
    }
    let row = |EffectiveValue { section, key, value, origin }: EffectiveValue| {
        let section = if section.is_empty() { String::new() } else { format!("[{section}]") };
        [section, key, output::or_dash(value), origin.to_string()]
    };
    output::table(["SECTION", "KEY", "VALUE", "FROM"], values.into_iter().map(row).collect(), "");
    Ok(())
}

fn value_json(EffectiveValue { section, key, value, origin }: &EffectiveValue) -> serde_json::Value {
    let from = match origin {
        Origin::Flag(name) => json!({ "flag": name }),
        Origin::Variable(name) => json!({ "variable": name }),
        Origin::File(file, line) => json!({ "file": file, "line": line }),
        Origin::Default => json!("default"),
    };
    json!({ "section": section, "key": key, "value": value, "from": from })
}
