//! Values for the files of groups.

use std::{fmt, fs, io, path::Path};

use tracing::debug;

/// A value for a file of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    file: &'static str,
    value: String,
    /// Whether the group is of no use without it. Others are not there on every machine.
    is_needed: bool,
}

impl Setting {
    pub(super) fn needed(file: &'static str, value: impl ToString) -> Self {
        Self { file, value: value.to_string(), is_needed: true }
    }

    pub(super) fn wanted(file: &'static str, value: impl ToString) -> Self {
        Self { file, value: value.to_string(), is_needed: false }
    }

    /// Writes it into the group.
    pub(super) fn write(&self, group: &Path) -> io::Result<()> {
        match write(&group.join(self.file), &self.value) {
            Err(error) if !self.is_needed => {
                debug!(%error, "a setting cannot be made here");
                Ok(())
            }
            other => other,
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.file, self.value)
    }
}

/// Writes to a file that is there already, in one piece as the kernel wants it.
pub(super) fn write(file: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let written = fs::OpenOptions::new().write(true).open(file).and_then(|mut open| open.write_all(text.as_bytes()));
    written.map_err(|error| named(file, &error))
}

/// The errors of the kernel do not say which file they are about.
pub(super) fn named(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", file.display()))
}
