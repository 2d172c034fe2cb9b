//! The lock of a data folder: one `rbee up` at a time runs on it.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::error::CliError;

/// Lock of a data folder. It is released when this process ends, however it ends: no child process inherits the file.
#[derive(Debug)]
pub(super) struct UpLock {
    file: File,
    path: PathBuf,
}

/// The process that holds the lock, as the file names it for others.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Holder {
    /// Process id.
    pub(super) pid: u32,
    /// Address of its bus, without a password.
    pub(super) nats: Option<String>,
    /// Address of its HTTP API.
    pub(super) http: Option<String>,
}

impl UpLock {
    /// Takes the lock of the folder `data`, which is created if it does not exist.
    ///
    /// # Errors
    /// Another `rbee up` runs on this folder, or the folder cannot be written.
    pub(super) fn take(data: &Path) -> Result<Self, CliError> {
        let unwritable = |cause: io::Error| {
            CliError::failed(format!(
                "failed to write the data folder {}: {cause}; choose another with --data",
                data.display()
            ))
        };
        fs::create_dir_all(data).map_err(unwritable)?;
        let path = data.join("up.lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(data, &path)),
            Err(TryLockError::Error(cause)) => return Err(unwritable(cause)),
        }
        let lock = Self { file, path };
        lock.write(&Holder { pid: std::process::id(), ..Holder::default() }).map_err(unwritable)?;
        Ok(lock)
    }

    /// Names the addresses of this process for others.
    pub(super) fn announce(&self, nats: &str, http: &str) {
        let holder = Holder { pid: std::process::id(), nats: Some(nats.to_owned()), http: Some(http.to_owned()) };
        if let Err(error) = self.write(&holder) {
            warn!(path = %self.path.display(), %error, "failed to write the addresses of this process");
        }
    }

    fn write(&self, holder: &Holder) -> io::Result<()> {
        let mut file = &self.file;
        file.set_len(0)?;
        io::Seek::seek(&mut file, io::SeekFrom::Start(0))?;
        file.write_all(&serde_json::to_vec(holder)?)
    }
}

fn held(data: &Path, path: &Path) -> CliError {
    let written = fs::read(path).ok().and_then(|written| serde_json::from_slice::<Holder>(&written).ok());
    let Holder { pid, nats, http } = written.unwrap_or_default();
    let process = if pid == 0 { String::new() } else { format!(": process {pid}") };
    let nats = nats.map(|url| format!(", NATS {url}")).unwrap_or_default();
    let http = http.map(|url| format!(", HTTP {url}")).unwrap_or_default();
    CliError::taken(format!(
        "`rbee up` already runs on {}{process}{nats}{http}. Use that one, or stop it with `rbee down`; a second one needs \
         --data, --nats-port and --http of its own",
        data.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_on_a_folder_is_told_about_the_first() {
        let data = tempfile::tempdir().expect("a folder");
        let folder = data.path().join("my data");
        let lock = UpLock::take(&folder).expect("free");
        let refused = || UpLock::take(&folder).expect_err("held").message().to_owned();
        let pid = std::process::id();
        assert!(refused().contains(&format!("{}: process {pid}. ", folder.display())), "{}", refused());
        lock.announce("nats://127.0.0.1:1", "http://127.0.0.1:2/v1");
        let all = format!(": process {pid}, NATS nats://127.0.0.1:1, HTTP http://127.0.0.1:2/v1. ");
        assert!(refused().contains(&all), "{}", refused());
        drop(lock);
        UpLock::take(&folder).expect("free again");
    }
}
