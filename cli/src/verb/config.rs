//! `rbee config`: the configuration is checked, shown, or begun.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Subcommand, builder::PossibleValuesParser};
use serde_json::json;

use crate::{
    Context,
    config::{self, ConfigRequest, Configuration, Effective, Mistake, Origin, effective, report},
    error::CliError,
    help::command,
    output,
};

/// Options of `rbee config`.
#[derive(Debug, Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say everything that is wrong in a configuration file, environments included.
    Check {
        /// Which file; default: the one that would be read.
        file: Option<PathBuf>,
    },
    /// Print every option that a role would have, and where it comes from: a flag, a variable, a line of the file, or the
    /// built-in default. Passwords are not shown.
    Show {
        /// Which role; `up` has the options of all.
        #[arg(long, default_value = "up", value_parser = PossibleValuesParser::new(["up", "queen", "hive"]),
              value_name = "ROLE")]
        role: String,
        /// Further options that the role would be started with.
        #[arg(last = true, value_name = "OPTIONS")]
        options: Vec<OsString>,
    },
    /// Print a file with every option, its default and its description.
    Example,
}

impl Config {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        match self.action {
            Action::Check { file } => check(file, context),
            Action::Show { role, options } => show_all(&role, options, context),
            Action::Example => {
                print!("{}", config::example());
                Ok(())
            }
        }
    }
}

fn check(named: Option<PathBuf>, context: &Context) -> Result<(), CliError> {
    let request = ConfigRequest { file: named.or_else(|| context.config.file.clone()), ..context.config.clone() };
    let file = request.source().read()?;
    let read = file.as_ref().map(|file| config::read(&file.text, &command()));
    let mistakes = read.and_then(Result::err).unwrap_or_default();
    if context.json {
        let path = file.as_ref().map(|file| file.path.display().to_string());
        output::json(&json!({ "file": path, "mistakes": mistakes.iter().map(mistake).collect::<Vec<_>>() }));
    }
    if let (Some(file), false) = (file, mistakes.is_empty()) {
        let report = if context.json { String::new() } else { report(&file.path, &mistakes) };
        return Err(CliError::usage(report));
    }
    // The environment has to be there too.
    let right = request.configuration()?;
    if !context.json {
        say_right(&right, &request);
    }
    Ok(())
}

fn say_right(right: &Configuration, request: &ConfigRequest) {
    let environments: Vec<&str> = right.settings.environments().collect();
    match (&right.file, environments.as_slice()) {
        (None, _) => println!("{}", request.source().absence()),
        (Some(file), []) => println!("{} is right", file.display()),
        (Some(file), names) => println!("{} is right, with environments {}", file.display(), names.join(", ")),
    }
}

fn mistake(mistake: &Mistake) -> serde_json::Value {
    json!({ "line": mistake.line, "column": mistake.column, "key": mistake.key, "message": mistake.problem.to_string() })
}

fn show_all(role: &str, options: Vec<OsString>, context: &Context) -> Result<(), CliError> {
    let configuration = context.config.configuration()?;
    let program = std::iter::once(OsString::from("rbee"));
    let arguments = program.chain(context.config.options.clone()).chain([role.into()]).chain(options).collect();
    let found = effective(&command(), arguments, &configuration.chosen, configuration.file.as_deref());
    let found = found.unwrap_or_else(|error| error.exit());
    if context.json {
        output::json(&json!({
            "file": configuration.file,
            "environment": context.config.environment,
            "options": found.iter().map(option).collect::<Vec<_>>(),
        }));
        return Ok(());
    }
    match (&configuration.file, &context.config.environment) {
        (None, _) => println!("{}\n", context.config.source().absence()),
        (Some(file), None) => println!("configuration file {}\n", file.display()),
        (Some(file), Some(name)) => println!("configuration file {}, environment {name}\n", file.display()),
    }
    let row = |Effective { section, option, value, origin }: Effective| {
        let section = if section.is_empty() { String::new() } else { format!("[{section}]") };
        [section, option, output::or_dash(value), origin.to_string()]
    };
    output::table(["SECTION", "OPTION", "VALUE", "FROM"], found.into_iter().map(row).collect(), "");
    Ok(())
}

fn option(Effective { section, option, value, origin }: &Effective) -> serde_json::Value {
    let from = match origin {
        Origin::Flag(name) => json!({ "flag": name }),
        Origin::Variable(name) => json!({ "variable": name }),
        Origin::File(file, line) => json!({ "file": file, "line": line }),
        Origin::Default => json!("default"),
    };
    json!({ "section": section, "option": option, "value": value, "from": from })
}
