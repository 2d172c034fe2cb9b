//! The command line of a process, with what its configuration file says as defaults.

use std::{ffi::OsString, path::PathBuf};

use clap::{ArgMatches, Command, FromArgMatches as _, parser::ValueSource};

use super::{
    ConfigSource, declared, read, report,
    settings::{Chosen, Settings},
};
use crate::{Cli, error::CliError, help::command};

/// Which configuration this process was request to use.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigRequest {
    /// The file, where one is named.
    pub(crate) file: Option<PathBuf>,
    /// The environment.
    pub(crate) environment: Option<String>,
    /// The options of every verb that were given, as they are given again.
    pub(crate) options: Vec<OsString>,
}

/// A configuration that was found and is right.
#[derive(Debug, Clone, Default)]
pub(crate) struct Configuration {
    /// The file; none where there is none.
    pub(crate) file: Option<PathBuf>,
    /// Everything that it says.
    pub(crate) settings: Settings,
    /// What holds of it.
    pub(crate) chosen: Chosen,
}

/// Reads the command line. Ends the process as the parser does: for `--help`, or where an option is wrong.
///
/// # Errors
/// The configuration is wrong, cannot be read, or is not there.
pub(crate) fn command_line(arguments: Vec<OsString>) -> Result<(Cli, ConfigRequest), CliError> {
    // What is wrong with the other options is told by the second reading, which knows the file. Whoever asks for help gets
    // it here, whatever is wrong with the file.
    let first = command().ignore_errors(true).try_get_matches_from(&arguments);
    let first = first.unwrap_or_else(|error| error.exit());
    let request = ConfigRequest::new(&first);
    let command = match first.subcommand_name() {
        // It looks for the mistakes itself.
        Some("config") => command(),
        _ => request.configuration()?.chosen.apply(command()),
    };
    let matches = command.try_get_matches_from(arguments);
    let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches)).unwrap_or_else(|error| error.exit());
    Ok((cli, request))
}

impl ConfigRequest {
    fn new(matches: &ArgMatches) -> Self {
        Self {
            file: matches.get_one("config").cloned(),
            environment: matches.get_one("env").cloned(),
            options: given_again(&command(), matches),
        }
    }

    /// The command line of another process that is request for the same: what stands before its verb.
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

    /// Where the file is looked for.
    pub(crate) fn source(&self) -> ConfigSource {
        ConfigSource::new(self.file.clone())
    }

    /// Finds, reads and checks the configuration.
    ///
    /// # Errors
    /// It is wrong, cannot be read, or is not there.
    pub(crate) fn configuration(&self) -> Result<Configuration, CliError> {
        let source = self.source();
        let Some(file) = source.read()? else {
            return match &self.environment {
                Some(name) => Err(CliError::usage(format!("there is no environment `{name}`: {}", source.absence()))),
                None => Ok(Configuration::default()),
            };
        };
        let settings =
            read(&file.text, &command()).map_err(|mistakes| CliError::usage(report(&file.path, &mistakes)))?;
        let chosen = settings.choose(self.environment.as_deref());
        let chosen = chosen.map_err(|error| CliError::usage(format!("{}: {error}", file.path.display())))?;
        Ok(Configuration { file: Some(file.path), settings, chosen })
    }
}

/// The options of every verb that stood on the command line, as arguments.
fn given_again(command: &Command, matches: &ArgMatches) -> Vec<OsString> {
    let options = declared::sections(command).into_iter().find(|section| section.name == declared::TOP);
    let mut arguments = Vec::new();
    for option in options.map(|section| section.options).unwrap_or_default() {
        let id = option.get_id().as_str();
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        for value in matches.get_raw(id).into_iter().flatten() {
            let mut argument = OsString::from(format!("--{}", declared::spelling(option)));
            if !declared::is_flag(option) {
                argument.push("=");
                argument.push(value);
            }
            arguments.push(argument);
        }
    }
    arguments
}
