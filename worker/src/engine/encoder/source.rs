//! A folder in the safetensors format as the source of an encoder model.

use rbee_schema::Failure;
use rbee_transformer::{Tensor, TensorSource};

use crate::model_file::Safetensors;

/// Prefixes of the names of an encoder's tensors. Checkpoints that hold more than the encoder have one.
const PREFIXES: [&str; 3] = ["", "bert.", "roberta."];

/// The tensors of an encoder, found by their names without the prefix of the checkpoint.
pub(super) struct EncoderSource {
    tensors: Safetensors,
    prefix: &'static str,
}

impl EncoderSource {
    /// Finds the prefix and checks the types of the encoder's tensors.
    ///
    /// # Errors
    /// `model-unsupported` for the type of a tensor.
    pub(super) fn new(tensors: Safetensors) -> Result<Self, Failure> {
        let exists = |prefix: &&str| tensors.shape(&format!("{prefix}embeddings.word_embeddings.weight")).is_some();
        let prefix = PREFIXES.into_iter().find(exists).unwrap_or_default();
        tensors.check_types(|name| {
            name.strip_prefix(prefix).is_some_and(|name| {
                name.starts_with("encoder.") || (name.starts_with("embeddings.") && !name.ends_with("position_ids"))
            })
        })?;
        Ok(Self { tensors, prefix })
    }

    /// Size of all files in bytes.
    pub(super) fn length(&self) -> u64 {
        self.tensors.length()
    }
}

impl TensorSource for EncoderSource {
    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.tensors.tensor(&format!("{}{name}", self.prefix))
    }

    fn release(&self, bytes: &[u8]) {
        self.tensors.release(bytes);
    }
}
