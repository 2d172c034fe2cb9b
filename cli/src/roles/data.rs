//! The folder for the data of this machine.

use std::{
    env,
    path::{Path, PathBuf},
};

use clap::Args;

use crate::error::CliError;

/// Folder for the data of this machine.
#[derive(Debug, Clone, Args)]
pub(crate) struct DataOptions {
    /// Keep the data of this machine here: fetched models, what the hive must know after a restart, the logs of workers, and
    /// the bus that `rbee up` starts [default: ~/.local/share/rbee].
    #[arg(long, env = "RBEE_DATA", hide_env_values = true, value_name = "FOLDER")]
    data: Option<PathBuf>,
}

impl DataOptions {
    /// The absolute path of the folder.
    ///
    /// # Errors
    /// Neither the option nor `HOME` names a folder.
    pub(crate) fn folder(&self) -> Result<PathBuf, CliError> {
        let folder = match (&self.data, env::var_os("XDG_DATA_HOME"), env::var_os("HOME")) {
            (Some(data), ..) => data.clone(),
            (None, Some(data), _) => Path::new(&data).join("rbee"),
            (None, None, Some(home)) => Path::new(&home).join(".local/share/rbee"),
            (None, None, None) => return Err(CliError::usage("HOME is not set: name the data folder with --data")),
        };
        std::path::absolute(&folder).map_err(|error| CliError::usage(format!("{}: {error}", folder.display())))
    }
}
