//! Opens a GGUF file, checks that it is whole, and gives its tensors as they stand in it.
//! The header is copied when the file is opened, so that no count or place can change after it was checked.

use std::path::Path;

use candle_core::quantized::{GgmlDType, gguf_file::Content};
use rbee_schema::Failure;

use super::{extent, header, mapped::Mapped, metadata::Metadata};

/// A GGUF file whose header was read and whose tensors lie within the file.
pub struct Gguf {
    /// Metadata and the places of tensors.
    pub content: Content,
    file: Mapped,
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
        let file = Mapped::open(path)?;
        Ok(Self { content: header::read(file.bytes())?, file })
    }

    /// What the header says about the model.
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata(&self.content.metadata)
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.file.bytes().len() as u64
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        tensor(&self.content, self.file.bytes(), name)
    }

    /// Gives the memory of a tensor's bytes back to the system. Who looks at them again reads them from the file. Other
    /// bytes than those of this file are left alone.
    pub fn forget(&self, bytes: &[u8]) {
        self.file.forget(bytes);
    }
}

/// The tensor of this name, where the header and all bytes of its file are at hand.
pub fn tensor<'a>(content: &'a Content, file: &'a [u8], name: &str) -> Option<Tensor<'a>> {
    let info = content.tensor_infos.get(name)?;
    let (start, end) = extent::place(content, info)?;
    let bytes = file.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)?;
    Some(Tensor { kind: info.ggml_dtype, shape: info.shape.dims(), bytes })
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
