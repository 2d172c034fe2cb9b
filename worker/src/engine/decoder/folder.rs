//! The tensors of a folder in the safetensors format, as a decoder asks for them: by their names in GGUF files.

use std::{fs, path::Path};

use rbee_schema::{Failure, FailureCode};
use rbee_transformer::{RopePairing, Tensor, TensorSize, TensorSource, WeightType};

use super::Source;
use crate::{
    architecture::{DecoderConfig, tensor_name_in_folder},
    contract::TemplateLimits,
    model_file::{Safetensors, gguf::Metadata, json_file::read_json},
    text::ModelText,
};

/// What a file may have that nothing needs: angles of positions, which older checkpoints keep.
const IGNORED: [&str; 1] = [".rotary_emb.inv_freq"];
/// The factors of positions, where there are any: a tensor in GGUF files.
const FACTORS: &str = "rope_freqs.weight";

pub(super) struct Folder {
    config: DecoderConfig,
    tensors: Safetensors,
    text: ModelText,
    /// Bytes of its tokenizer.
    text_bytes: u64,
    /// Factors of positions, as a tensor has them.
    factors: Option<(Vec<usize>, Vec<u8>)>,
}

impl Folder {
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

impl TensorSource for Folder {
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

impl Source for Folder {
    fn metadata(&self) -> Metadata<'_> {
        Metadata(&self.config.metadata)
    }

    fn into_text(self: Box<Self>) -> ModelText {
        self.text
    }

    fn tokens(&self) -> usize {
        self.text.vocabulary_size()
    }

    fn length(&self) -> u64 {
        self.tensors.length()
    }

    fn header_bytes(&self) -> u64 {
        0
    }

    fn sizes(&self) -> Vec<TensorSize<'_>> {
        self.tensors.sizes().collect()
    }

    fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    fn unused(&self) -> Option<String> {
        self.tensors.unused(&IGNORED)
    }

    fn pairs(&self) -> Option<RopePairing> {
        // No converter has reordered them.
        Some(RopePairing::Halves)
    }
}
