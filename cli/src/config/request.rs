//! The configuration that this process was started with: its file, its environment, and the options of every verb.

use std::{ffi::OsString, path::PathBuf};

use clap::{ArgMatches, Command, parser::ValueSource};

use super::{
    keys::{FILE_OPTIONS, is_flag, spelling},
    mistake::report,
    read::read,
    source::ConfigSource,
    values::{Defaults, FileValues},
};
use crate::error::CliError;

/// The configuration that this process was started with.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigRequest {
    /// The file that was named, if any.
    pub(crate) file: Option<PathBuf>,
    /// The environment.
    pub(crate) environment: Option<String>,
    /// Options of every verb that were given, as arguments.
    pub(crate) options: Vec<OsString>,
}

/// A valid configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Configuration {
    /// The file; none if there is none.
    pub(crate) file: Option<PathBuf>,
    /// All values of the file.
    pub(crate) values: FileValues,
    /// The values that apply to this process.
    pub(crate) defaults: Defaults,
}

impl ConfigRequest {
    /// The request in a parsed command line.
    pub(crate) fn new(command: &Command, matches: &ArgMatches) -> Self {
        Self {
            file: matches.get_one("config").cloned(),
            environment: matches.get_one("env").cloned(),
            options: given_options(command, matches),
        }
    }

    /// Arguments before the verb that give another rbee process the same configuration and options.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let flag = |name: &str, value: OsString| {
            let mut argument = OsString::from(format!("--{name}="));
            argument.push(value);
            argument
        };
        let file = self.file.clone().map(|file| flag("config", file.into()));
        let environment = self.environment.clone().map(|name| flag("env", name.into()));
        file.into_iter().chain(environment).chain(self.options.clone()).collect()
    }

    /// Places where the file is looked for.
    pub(crate) fn source(&self) -> ConfigSource {
        ConfigSource::new(self.file.clone())
    }

    /// Finds, reads and checks the configuration against the declarations of `command`.
    ///
    /// # Errors
    /// It is invalid, unreadable or missing.
    pub(crate) fn configuration(&self, command: &Command) -> Result<Configuration, CliError> {
        let source = self.source();
        let Some(file) = source.read()? else {
            return match &self.environment {
                Some(name) => {
                    Err(CliError::usage(format!("unknown environment `{name}`: {}", source.describe_absence())))
                }
                None => Ok(Configuration::default()),
            };
        };
        let values = read(&file.text, command).map_err(|mistakes| CliError::usage(report(&file.path, &mistakes)))?;
        let defaults = values.choose(self.environment.as_deref());
        let defaults = defaults.map_err(|error| CliError::usage(format!("{}: {error}", file.path.display())))?;
        Ok(Configuration { file: Some(file.path), values, defaults })
    }
}

/// Options of every verb that were given on the command line, as arguments.
fn given_options(command: &Command, matches: &ArgMatches) -> Vec<OsString> {
    let mut arguments = Vec::new();
    for option in command.get_arguments().filter(|option| option.get_long().is_some()) {
        let id = option.get_id().as_str();
        let is_given =
            matches.try_contains_id(id).is_ok() && matches.value_source(id) == Some(ValueSource::CommandLine);
        if FILE_OPTIONS.contains(&id) || !is_given {
            continue;
        }
        for value in matches.get_raw(id).into_iter().flatten() {
            let mut argument = OsString::from(format!("--{}", spelling(option)));
            if !is_flag(option) {
                argument.push("=");
                argument.push(value);
            }
            arguments.push(argument);
        }
    }
    arguments
}
