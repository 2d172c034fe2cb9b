//! SHA-256, as it is written here: in hexadecimal.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};

/// The digest of some bytes.
pub(super) fn of(bytes: &[u8]) -> String {
    let mut digest = Running::default();
    digest.add(bytes);
    digest.text()
}

/// The digest of a whole file; tells after each piece how much is read.
pub(super) fn of_file(path: &Path, told: impl FnMut(u64)) -> io::Result<String> {
    let mut digest = Running::default();
    digest.add_file(&mut File::open(path)?, told)?;
    Ok(digest.text())
}

/// A digest of what came so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Sha256);

impl Running {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds what a file holds from where it stands, and tells after each piece how much that is so far.
    pub(super) fn add_file(&mut self, file: &mut File, mut told: impl FnMut(u64)) -> io::Result<u64> {
        let mut piece = vec![0; 1 << 20];
        let mut done = 0;
        loop {
            let read = match file.read(&mut piece) {
                Ok(0) => return Ok(done),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.add(&piece[..read]);
            done += read as u64;
            told(done);
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.0.clone().finalize() {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}
