//! A GGUF file as the source of a decoder model.

use std::{cell::RefCell, collections::BTreeSet, path::Path};

use rbee_schema::Failure;
use rbee_transformer::{RopePairing, Tensor, TensorSize, TensorSource};

use super::source::ModelSource;
use crate::{
    architecture,
    contract::TemplateLimits,
    model_file::gguf::{Gguf, Metadata},
    text::ModelText,
};

/// An open GGUF file.
pub(super) struct GgufSource {
    gguf: Gguf,
    text: ModelText,
    /// Names of tensors that were not read yet.
    unused: RefCell<BTreeSet<String>>,
}

impl GgufSource {
    /// Opens the file and reads its header, tokenizer and chat template.
    ///
    /// # Errors
    /// `model-missing`, `model-invalid`, or `model-unsupported` for its architecture or the type of a tensor.
    pub(super) fn open(path: &Path, limits: TemplateLimits) -> Result<Self, Failure> {
        let gguf = Gguf::open(path)?;
        let unused = RefCell::new(gguf.header.tensors.keys().cloned().collect());
        architecture::check_supported(gguf.metadata())?;
        let text = ModelText::from_metadata(gguf.metadata(), limits)?;
        Ok(Self { gguf, text, unused })
    }
}

impl ModelSource for GgufSource {
    fn metadata(&self) -> Metadata<'_> {
        self.gguf.metadata()
    }

    fn into_text(self: Box<Self>) -> ModelText {
        self.text
    }

    fn vocabulary_size(&self) -> usize {
        self.text.vocabulary_size()
    }

    fn length(&self) -> u64 {
        self.gguf.length()
    }

    fn header_bytes(&self) -> u64 {
        self.gguf.header.tensor_data_offset
    }

    fn tensor_sizes(&self) -> Vec<TensorSize<'_>> {
        let tensors = self.gguf.header.tensors.values();
        tensors.map(|tensor| TensorSize { weight_type: tensor.weight_type, shape: &tensor.shape }).collect()
    }

    fn text_bytes(&self) -> u64 {
        self.header_bytes()
    }

    fn unused_tensor(&self) -> Option<String> {
        self.unused.borrow().first().cloned()
    }

    fn rope_pairing(&self) -> Option<RopePairing> {
        None
    }
}

impl TensorSource for GgufSource {
    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let tensor = self.gguf.tensor(name)?;
        self.unused.borrow_mut().remove(name);
        Some(Tensor { weight_type: tensor.weight_type, shape: tensor.shape, bytes: tensor.bytes })
    }

    fn release(&self, bytes: &[u8]) {
        self.gguf.release_pages(bytes);
    }
}
