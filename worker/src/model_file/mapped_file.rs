//! A model file mapped into memory. A tensor is a slice of the map, and pages that are no longer used can be released.
//!
//! If another process truncates a mapped file, the next access beyond its end raises SIGBUS, which ends the worker; if another
//! process writes to the file, the weights change. Both are accepted. Readers copy the header when they open a file, so that no
//! count or offset can change after it was checked, and any bytes are valid as weights. Files in a hive's store are written
//! under another name, renamed when they are complete, and never written again. If a person truncates a file, the hive handles
//! the worker's exit like any other.

use std::{fs::File, io, path::Path};

use memmap2::{Mmap, UncheckedAdvice};
use rbee_schema::{Failure, FailureCode};

/// A file mapped into memory for reading.
pub(super) struct MappedFile(Mmap);

impl MappedFile {
    /// Opens and maps a file.
    ///
    /// # Errors
    /// `model-missing`: the file does not exist, cannot be read, or is a folder.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let unreadable = |error: io::Error| Failure::new(FailureCode::ModelMissing, unreadable_message(&error));
        let file = File::open(path).map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(Failure::new(FailureCode::ModelMissing, "this is not a file: name the .gguf file itself"));
        }
        // SAFETY: the bytes change only if another process writes to the file; the module documentation says why that is
        // accepted.
        #[expect(unsafe_code, reason = "a map of a file has no safe constructor")]
        let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        Ok(Self(map))
    }

    /// All bytes of the file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Releases the memory pages of a part of the file. A later access reads them from the file again. Bytes outside the file
    /// are ignored.
    pub(super) fn release_pages(&self, bytes: &[u8]) {
        let offset = (bytes.as_ptr() as usize).wrapping_sub(self.0.as_ptr() as usize);
        if offset.checked_add(bytes.len()).is_none_or(|end| end > self.0.len()) {
            return;
        }
        // SAFETY: the range lies within the map, which is never written to: a page that is read again is the same.
        #[expect(unsafe_code, reason = "advice that can lose written bytes is not safe")]
        let advised = unsafe { self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, bytes.len()) };
        if let Err(error) = advised {
            tracing::debug!(%error, "the kernel kept pages of the model file in memory");
        }
    }
}

fn unreadable_message(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such file on this machine: copy the model there, or correct the reference".to_owned()
        }
        io::ErrorKind::PermissionDenied => "the worker's user may not read it: change its permissions".to_owned(),
        _ => format!("the file cannot be read: {error}"),
    }
}
