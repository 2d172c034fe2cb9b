//! An open GGUF file, checked for completeness, with access to its tensors.
//!
//! The header is copied when the file is opened, so that no count or offset can change after it was checked.

use std::path::Path;

use rbee_kernels::WeightType;
use rbee_schema::Failure;

use super::{header::Header, layout::byte_range, metadata::Metadata, parse::read_header};
use crate::model_file::mapped_file::MappedFile;

/// An open GGUF file whose header has been read and whose tensors lie within the file.
pub struct Gguf {
    /// Metadata, and the type, shape and offset of each tensor.
    pub header: Header,
    file: MappedFile,
}

/// A tensor as stored in a GGUF file.
#[derive(Debug, Clone, Copy)]
pub struct GgufTensor<'a> {
    /// Storage format of the numbers.
    pub weight_type: WeightType,
    /// Size of each dimension, rows first: the last one is the number of columns.
    pub shape: &'a [usize],
    /// The numbers, row by row, each row in whole blocks. The address is a multiple of the file's alignment, which need not
    /// be the alignment of the number type.
    pub bytes: &'a [u8],
}

impl Gguf {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// - `model-missing`: the file does not exist, cannot be read, or is a folder;
    /// - `model-invalid`: the file is not GGUF, is damaged, or is shorter than its header says;
    /// - `model-unsupported`: the version, the byte order or a tensor type is not supported.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file = MappedFile::open(path)?;
        Ok(Self { header: read_header(file.bytes())?, file })
    }

    /// Key-value pairs of the header.
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata(&self.header.metadata)
    }

    /// Size of the file in bytes.
    pub fn length(&self) -> u64 {
        self.file.bytes().len() as u64
    }

    /// Finds a tensor by its name.
    pub fn tensor(&self, name: &str) -> Option<GgufTensor<'_>> {
        find_tensor(&self.header, self.file.bytes(), name)
    }

    /// Releases the memory pages of a tensor's bytes. A later access reads them from the file again. Bytes outside the file
    /// are ignored.
    pub fn release_pages(&self, bytes: &[u8]) {
        self.file.release_pages(bytes);
    }
}

/// Finds a tensor by its name, given a parsed header and all bytes of the file.
pub fn find_tensor<'a>(header: &'a Header, file: &'a [u8], name: &str) -> Option<GgufTensor<'a>> {
    let info = header.tensors.get(name)?;
    let (start, end) = byte_range(header, info)?;
    let bytes = file.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)?;
    Some(GgufTensor { weight_type: info.weight_type, shape: &info.shape, bytes })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A GGUF file with one tensor of `count` numbers, large enough to span several memory pages.
    fn file(count: u64) -> Vec<u8> {
        let mut file = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend([&1u64.to_le_bytes()[..], b"t", &1u32.to_le_bytes(), &count.to_le_bytes(), &[0; 12]].concat());
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend((0..count).flat_map(|number| (number as f32).to_le_bytes()));
        file
    }

    #[test]
    fn released_tensor_is_read_from_the_file_again() {
        let mut written = tempfile::NamedTempFile::new().expect("a file");
        written.write_all(&file(10_000)).expect("writes");
        let gguf = Gguf::open(written.path()).expect("opens");
        let before = gguf.tensor("t").expect("there");
        assert_eq!((before.weight_type, before.shape, before.bytes.len()), (WeightType::F32, &[10_000][..], 40_000));
        let copy = before.bytes.to_vec();
        gguf.release_pages(before.bytes);
        gguf.release_pages(&copy);
        assert_eq!(gguf.tensor("t").expect("there").bytes, copy);
        assert!(gguf.tensor("u").is_none());
    }
}
