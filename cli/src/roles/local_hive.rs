//! The hive that `rbee hive` would run on this machine, configured by the environment and the configuration file.

use std::{ffi::OsString, path::PathBuf};

use clap::FromArgMatches as _;
use rbee_hive::decide::rules::Rules;
use rbee_schema::HiveName;

use super::{data::DataOptions, hive::HiveOptions};
use crate::{Context, error::CliError};

/// A hive of this machine that runs as a process of its own.
pub(crate) struct LocalHiveSetup {
    /// Arguments that start it, after the program.
    pub(crate) arguments: Vec<OsString>,
    /// Name of the hive.
    pub(crate) name: HiveName,
    /// Its data folder.
    pub(crate) data: PathBuf,
    /// Its timers and limits.
    pub(crate) rules: Rules,
}

impl LocalHiveSetup {
    /// Reads the options of the hive as its own process would. An invalid option exits this process, as clap does.
    ///
    /// # Errors
    /// The configuration is invalid, or there is no data folder.
    pub(crate) fn read(context: &Context) -> Result<Self, CliError> {
        let mut arguments = context.config.arguments();
        arguments.push("hive".into());
        let command = context.config.configuration(&context.command)?.defaults.apply(context.command.clone());
        let program = std::iter::once(OsString::from("rbee"));
        let matches = command.try_get_matches_from(program.chain(arguments.clone()));
        let matches = matches.unwrap_or_else(|error| error.exit());
        let hive = matches.subcommand_matches("hive").ok_or_else(|| CliError::usage("the arguments run no hive"))?;
        let options = |error: clap::Error| CliError::usage(error.to_string());
        let (data, hive) = (
            DataOptions::from_arg_matches(hive).map_err(options)?,
            HiveOptions::from_arg_matches(hive).map_err(options)?,
        );
        Ok(Self { arguments, name: hive.name(), data: data.folder()?, rules: hive.rules() })
    }
}
