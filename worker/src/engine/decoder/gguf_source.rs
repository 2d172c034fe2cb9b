//! A GGUF file as the source of a decoder model.

use std::{cell::RefCell, collections::BTreeSet, path::Path};

use candle_core::quantized::GgmlDType;
use rbee_schema::Failure;
use rbee_transformer::{RopePairing, Tensor, TensorSize, TensorSource, WeightType};

use super::source::ModelSource;
use crate::{
    architecture,
    contract::TemplateLimits,
    model_file::{
        error::unsupported,
        gguf::{Gguf, Metadata},
    },
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
        let tensors = &gguf.content.tensor_infos;
        if let Some((name, tensor)) = tensors.iter().find(|(_, tensor)| weight_type(tensor.ggml_dtype).is_none()) {
            let known: Vec<String> = WeightType::ALL.iter().map(|kind| format!("{kind:?}")).collect();
            let (found, known) = (tensor.ggml_dtype, known.join(", "));
            return Err(unsupported(format!("the tensor {name} is stored as {found:?}: supported are {known}")));
        }
        let unused = RefCell::new(tensors.keys().cloned().collect());
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
        self.gguf.content.tensor_data_offset
    }

    fn tensor_sizes(&self) -> Vec<TensorSize<'_>> {
        let tensors = self.gguf.content.tensor_infos.values();
        let size = |weight_type, shape| TensorSize { weight_type, shape };
        tensors.filter_map(|tensor| Some(size(weight_type(tensor.ggml_dtype)?, tensor.shape.dims()))).collect()
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
        Some(Tensor { weight_type: weight_type(tensor.kind)?, shape: tensor.shape, bytes: tensor.bytes })
    }

    fn release(&self, bytes: &[u8]) {
        self.gguf.release_pages(bytes);
    }
}

fn weight_type(kind: GgmlDType) -> Option<WeightType> {
    match kind {
        GgmlDType::F32 => Some(WeightType::F32),
        GgmlDType::F16 => Some(WeightType::F16),
        GgmlDType::BF16 => Some(WeightType::BF16),
        GgmlDType::Q4_0 => Some(WeightType::Q4_0),
        GgmlDType::Q4_1 => Some(WeightType::Q4_1),
        GgmlDType::Q5_0 => Some(WeightType::Q5_0),
        GgmlDType::Q5_1 => Some(WeightType::Q5_1),
        GgmlDType::Q8_0 => Some(WeightType::Q8_0),
        GgmlDType::Q2K => Some(WeightType::Q2K),
        GgmlDType::Q3K => Some(WeightType::Q3K),
        GgmlDType::Q4K => Some(WeightType::Q4K),
        GgmlDType::Q5K => Some(WeightType::Q5K),
        GgmlDType::Q6K => Some(WeightType::Q6K),
        // Types of the inputs of products. Files do not contain them.
        GgmlDType::Q8_1 | GgmlDType::Q8K => None,
    }
}
