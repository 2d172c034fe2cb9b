//! Source of a decoder model: a GGUF file or a folder.

use rbee_transformer::{RopePairing, TensorSize, TensorSource};

use crate::{model_file::gguf::Metadata, text::ModelText};

/// A model file or folder, opened but with its weights not yet read. Tensors have their names in GGUF files.
pub(super) trait ModelSource: TensorSource {
    /// Hyperparameters, under the keys of GGUF files.
    fn metadata(&self) -> Metadata<'_>;

    /// Number of tokens of the vocabulary.
    fn vocabulary_size(&self) -> usize;

    /// Takes out tokenizer and chat template.
    fn into_text(self: Box<Self>) -> ModelText;

    /// Size of all files in bytes.
    fn length(&self) -> u64;

    /// Bytes before the tensors.
    fn header_bytes(&self) -> u64;

    /// Type and shape of each tensor.
    fn tensor_sizes(&self) -> Vec<TensorSize<'_>>;

    /// Bytes of the description of tokenizer and chat template, from which their memory is estimated.
    fn text_bytes(&self) -> u64;

    /// Name of a tensor that was never read; `None` if all were.
    fn unused_tensor(&self) -> Option<String>;

    /// Pairing of rotated numbers, if it differs from that of the architecture's GGUF files.
    fn rope_pairing(&self) -> Option<RopePairing>;
}
