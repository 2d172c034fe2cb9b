//! SHA-256 digests in hexadecimal.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use rbee_schema::ModelReference;
use sha2::{Digest as _, Sha256};

/// Digest of these bytes.
pub(super) fn of(bytes: &[u8]) -> String {
    let mut digest = Running::default();
    digest.add(bytes);
    digest.text()
}

/// Digest of a reference that is valid as a key and as a file name.
pub fn digest_of(reference: &ModelReference) -> String {
    // Half of the digest: 128 bits make two equal ones in one store practically impossible.
    let mut text = of(reference.to_string().as_bytes());
    text.truncate(32);
    text
}

/// Digest of a whole file. `progress` is called after each piece with the bytes read so far.
pub(super) fn of_file(path: &Path, progress: impl FnMut(u64)) -> io::Result<String> {
    let mut digest = Running::default();
    digest.add_file(&mut File::open(path)?, progress)?;
    Ok(digest.text())
}

/// Digest of everything added so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Sha256);

impl Running {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds the rest of a file from its current position. `progress` is called after each piece with the bytes added so far.
    pub(super) fn add_file(&mut self, file: &mut File, mut progress: impl FnMut(u64)) -> io::Result<u64> {
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
            progress(done);
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
