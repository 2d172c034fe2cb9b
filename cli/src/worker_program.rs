//! Path of the `rbee-worker` program that hives start.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::error::CliError;

/// The program that `--worker-program` names, else `rbee-worker` beside this program, else the one on `PATH`.
///
/// # Errors
/// No such program was found.
pub(crate) fn worker_program(named: Option<&Path>) -> Result<PathBuf, CliError> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let beside = env::current_exe().ok().and_then(|program| Some(program.parent()?.join("rbee-worker")));
    let on_path = env::var_os("PATH").into_iter().flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    let candidates = beside.into_iter().chain(on_path.map(|folder| folder.join("rbee-worker")));
    candidates.into_iter().find(|program| program.is_file()).ok_or_else(|| {
        CliError::failed(
            "found no rbee-worker beside this program or on PATH: build it with `cargo build -p rbee-worker`, or give its \
             path with --worker-program",
        )
    })
}
