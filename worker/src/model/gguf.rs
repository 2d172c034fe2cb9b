//! Opens a GGUF file, checks that it is whole, and gives its tensors as they stand in it.
//!
//! The file is mapped into memory: a tensor is a slice, and pages that nobody uses any more cost nothing.
//!
//! Whoever shortens a mapped file makes the next look at what is gone a SIGBUS, which ends the process; whoever writes
//! into one changes the weights. Both are borne: the header is copied when the file is opened, so that no count or
//! place can change after it was checked, and any bytes are valid as weights. Files of a hive's store are written under
//! another name and renamed when they are whole, and are never written again. For a file that a person shortens, the
//! hive sees the worker's death like any other.

use std::{fs::File, io, path::Path};

use candle_core::quantized::{GgmlDType, gguf_file::Content};
use memmap2::{Mmap, UncheckedAdvice};
use rbee_schema::{Failure, FailureCode};

use super::{extent, header, metadata::Metadata};

/// A GGUF file whose header was read and whose tensors lie within the file.
pub struct Gguf {
    /// Metadata and the places of tensors.
    pub content: Content,
    /// All bytes of the file.
    pub map: Mmap,
}

/// A tensor as it stands in the file.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    /// How its numbers are written.
    pub kind: GgmlDType,
    /// Sizes of its dimensions, rows first: the last one is the number of columns.
    pub shape: &'a [usize],
    /// Its numbers, row by row, each row in whole blocks. The place in memory is a multiple of the file's alignment,
    /// which need not be that of a number.
    pub bytes: &'a [u8],
}

impl Gguf {
    /// Opens a file.
    ///
    /// # Errors
    /// - `model-missing`: it is not there, cannot be read, or is a folder;
    /// - `model-invalid`: it is no GGUF file, or damaged, or shorter than its header says;
    /// - `model-unsupported`: its version, byte order or a type of its tensors is not known here.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let unreadable = |error: io::Error| Failure::new(FailureCode::ModelMissing, unreadable_message(&error));
        let file = File::open(path).map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(Failure::new(FailureCode::ModelMissing, "it is not a file: name the .gguf file itself"));
        }
        // SAFETY: the bytes may change under us only if somebody writes into the file; the module says why that is borne.
        #[expect(unsafe_code, reason = "a map of a file has no safe constructor")]
        let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        Ok(Self { content: header::read(&map)?, map })
    }

    /// What the header says about the model.
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata(&self.content.metadata)
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.map.len() as u64
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        tensor(&self.content, &self.map, name)
    }

    /// Gives the memory of a tensor's bytes back to the system. Who looks at them again reads them from the file. Other
    /// bytes than those of this file are left alone.
    pub fn forget(&self, bytes: &[u8]) {
        let offset = (bytes.as_ptr() as usize).wrapping_sub(self.map.as_ptr() as usize);
        if offset.checked_add(bytes.len()).is_none_or(|end| end > self.map.len()) {
            return;
        }
        // SAFETY: the range lies within the map, which is never written to: a page that is read again is the same.
        #[expect(unsafe_code, reason = "advice that can lose written bytes is not safe")]
        let advised = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, bytes.len()) };
        if let Err(error) = advised {
            tracing::debug!(%error, "pages of the model's file stay in memory until it is needed for something else");
        }
    }
}

/// The tensor of this name, where the header and all bytes of its file are at hand.
pub fn tensor<'a>(content: &'a Content, file: &'a [u8], name: &str) -> Option<Tensor<'a>> {
    let info = content.tensor_infos.get(name)?;
    let (start, end) = extent::place(content, info)?;
    let bytes = file.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)?;
    Some(Tensor { kind: info.ggml_dtype, shape: info.shape.dims(), bytes })
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// One tensor of numbers, over some pages.
    fn file(count: u64) -> Vec<u8> {
        let mut file = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend([&1u64.to_le_bytes()[..], b"t", &1u32.to_le_bytes(), &count.to_le_bytes(), &[0; 12]].concat());
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend((0..count).flat_map(|number| (number as f32).to_le_bytes()));
        file
    }

    #[test]
    fn a_tensor_that_was_forgotten_is_read_again() {
        let mut written = tempfile::NamedTempFile::new().expect("a file");
        written.write_all(&file(10_000)).expect("writes");
        let gguf = Gguf::open(written.path()).expect("opens");
        let before = gguf.tensor("t").expect("there");
        assert_eq!((before.kind, before.shape, before.bytes.len()), (GgmlDType::F32, &[10_000][..], 40_000));
        let copy = before.bytes.to_vec();
        gguf.forget(before.bytes);
        gguf.forget(&copy);
        assert_eq!(gguf.tensor("t").expect("there").bytes, copy);
        assert!(gguf.tensor("u").is_none());
    }
}
