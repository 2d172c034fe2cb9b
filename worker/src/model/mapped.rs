//! A model's file, mapped into memory: a tensor is a slice of it, and pages that nobody uses any more cost nothing.
//!
//! Whoever shortens a mapped file makes the next look at what is gone a SIGBUS, which ends the process; whoever writes
//! into one changes the weights. Both are borne: readers copy the header when they open a file, so that no count or place can
//! change after it was checked, and any bytes are valid as weights. Files of a hive's store are written under
//! another name and renamed when they are whole, and are never written again. For a file that a person shortens, the
//! hive sees the worker's death like any other.

use std::{fs::File, io, path::Path};

use memmap2::{Mmap, UncheckedAdvice};
use rbee_schema::{Failure, FailureCode};

/// A file that is mapped.
pub(super) struct Mapped(Mmap);

impl Mapped {
    /// Opens a file.
    ///
    /// # Errors
    /// `model-missing`: it is not there, cannot be read, or is a folder.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let unreadable = |error: io::Error| Failure::new(FailureCode::ModelMissing, unreadable_message(&error));
        let file = File::open(path).map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(Failure::new(FailureCode::ModelMissing, "it is not a file: name the .gguf file itself"));
        }
        // SAFETY: the bytes may change under us only if somebody writes into the file; the module says why that is borne.
        #[expect(unsafe_code, reason = "a map of a file has no safe constructor")]
        let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        Ok(Self(map))
    }

    /// All bytes of the file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Gives the memory of a part of the file back to the system. Who looks at it again reads it from the file. Other bytes
    /// than those of this file are left alone.
    pub(super) fn forget(&self, bytes: &[u8]) {
        let offset = (bytes.as_ptr() as usize).wrapping_sub(self.0.as_ptr() as usize);
        if offset.checked_add(bytes.len()).is_none_or(|end| end > self.0.len()) {
            return;
        }
        // SAFETY: the range lies within the map, which is never written to: a page that is read again is the same.
        #[expect(unsafe_code, reason = "advice that can lose written bytes is not safe")]
        let advised = unsafe { self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, bytes.len()) };
        if let Err(error) = advised {
            tracing::debug!(%error, "pages of the model's file stay in memory until it is needed for something else");
        }
    }
}

fn unreadable_message(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such file on this machine: copy the model there, or correct the reference".to_owned()
        }
        io::ErrorKind::PermissionDenied => "the worker's user may not read it: change its permissions".to_owned(),
        _ => format!("it cannot be read: {error}"),
    }
}
