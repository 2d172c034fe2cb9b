//! Values for the files of cgroups.

use std::{fmt, fs, io, path::Path};

use tracing::debug;

/// A value for a file of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    file: &'static str,
    value: String,
    /// True where the group is useless without the value. Other files do not exist on every machine.
    is_required: bool,
}

impl Setting {
    pub(super) fn required(file: &'static str, value: impl ToString) -> Self {
        Self { file, value: value.to_string(), is_required: true }
    }

    pub(super) fn optional(file: &'static str, value: impl ToString) -> Self {
        Self { file, value: value.to_string(), is_required: false }
    }

    /// Writes the value into the group.
    pub(super) fn write(&self, group: &Path) -> io::Result<()> {
        match write(&group.join(self.file), &self.value) {
            Err(error) if !self.is_required => {
                debug!(%error, "an optional cgroup setting is not available");
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

/// Writes to an existing file in one write, as the kernel demands.
pub(super) fn write(file: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let written = fs::OpenOptions::new().write(true).open(file).and_then(|mut open| open.write_all(text.as_bytes()));
    written.map_err(|error| named(file, &error))
}

/// Adds the path to an error of the kernel, which does not name it.
pub(super) fn named(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", file.display()))
}
