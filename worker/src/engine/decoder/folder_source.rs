//! A folder in the safetensors format as the source of a decoder model. Its tensors are found by their names in GGUF files.

use std::{fs, path::Path};

use rbee_schema::{Failure, FailureCode};
use rbee_transformer::{RopePairing, Tensor, TensorSize, TensorSource, WeightType};

use super::source::ModelSource;
use crate::{
    architecture::{DecoderConfig, tensor_name_in_folder},
    contract::TemplateLimits,
    model_file::{Safetensors, gguf::Metadata, json_file::read_json},
    text::ModelText,
};

/// Endings of names of tensors that are not needed: rotary frequencies, which older checkpoints contain.
const IGNORED: [&str; 1] = [".rotary_emb.inv_freq"];
/// Name of the tensor with the factors of rotary frequencies in GGUF files. A folder has them in its `config.json`.
const FACTORS: &str = "rope_freqs.weight";

/// An open folder.
pub(super) struct FolderSource {
    config: DecoderConfig,
    tensors: Safetensors,
    text: ModelText,
    /// Size of `tokenizer.json` in bytes.
    text_bytes: u64,
    /// Factors of rotary frequencies as shape and bytes of a tensor; `None` if the model has none.
    factors: Option<(Vec<usize>, Vec<u8>)>,
}

impl FolderSource {
    /// Opens the folder and reads its configuration, tokenizer and chat template.
    ///
    /// # Errors
    /// `model-missing`, `model-invalid`, or `model-unsupported` for its architecture or the type of a tensor.
    pub(super) fn open(path: &Path, limits: TemplateLimits) -> Result<Self, Failure> {
        let config = DecoderConfig::read(&read_json(path, "config.json")?)?;
        let tensors = Safetensors::open(path)?;
        tensors.check_types(|name| !IGNORED.iter().any(|end| name.ends_with(end)))?;
        if config.is_tied == Some(false) && tensors.shape("lm_head.weight").is_none() {
            let message = "the tensor lm_head.weight is missing, and tie_word_embeddings in config.json is false";
            return Err(Failure::new(FailureCode::ModelInvalid, message));
        }
        let bytes = |factors: &Vec<f32>| factors.iter().flat_map(|factor| factor.to_le_bytes()).collect();
        let factors = config.rope_factors.as_ref().map(|factors| (vec![factors.len()], bytes(factors)));
        let text = ModelText::from_folder(path, limits)?;
        let text_bytes = fs::metadata(path.join("tokenizer.json")).map_or(0, |file| file.len());
        Ok(Self { text, text_bytes, config, tensors, factors })
    }
}

impl TensorSource for FolderSource {
    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        if name == FACTORS {
            let (shape, bytes) = self.factors.as_ref()?;
            return Some(Tensor { weight_type: WeightType::F32, shape, bytes });
        }
        self.tensors.tensor(&tensor_name_in_folder(name)?)
    }

    fn release(&self, bytes: &[u8]) {
        self.tensors.release(bytes);
    }
}

impl ModelSource for FolderSource {
    fn metadata(&self) -> Metadata<'_> {
        Metadata(&self.config.metadata)
    }

    fn into_text(self: Box<Self>) -> ModelText {
        self.text
    }

    fn vocabulary_size(&self) -> usize {
        self.text.vocabulary_size()
    }

    fn length(&self) -> u64 {
        self.tensors.length()
    }

    fn header_bytes(&self) -> u64 {
        0
    }

    fn tensor_sizes(&self) -> Vec<TensorSize<'_>> {
        self.tensors.sizes().collect()
    }

    fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    fn unused_tensor(&self) -> Option<String> {
        self.tensors.unused(&IGNORED)
    }

    fn rope_pairing(&self) -> Option<RopePairing> {
        // Converters to GGUF reorder the rows of some architectures. In a folder they have their original order.
        Some(RopePairing::Halves)
    }
}
