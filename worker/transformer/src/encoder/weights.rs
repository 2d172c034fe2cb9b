//! Weights of an encoder, packed for products.

use rbee_kernels::{Matrix, Pool};

use super::description::EncoderDescription;
use crate::{
    linear::Linear,
    packer::Packer,
    tensor::{LoadError, TensorSource},
};

/// All weights of an encoder. They are held once, in packed form.
pub struct EncoderWeights {
    /// Token embedding: one row per token of the vocabulary.
    pub(crate) tokens: Matrix,
    /// Position embedding: one row per position.
    pub(crate) positions: Matrix,
    /// Embedding of token type 0, which all texts have.
    pub(crate) token_type: Vec<f32>,
    /// Norm of the sum of the embeddings.
    pub(crate) norm: LayerNorm,
    pub(crate) layers: Vec<LayerWeights>,
}

pub(crate) struct LayerWeights {
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) attention_output: Linear,
    pub(crate) attention_norm: LayerNorm,
    pub(crate) inner: Linear,
    pub(crate) output: Linear,
    pub(crate) output_norm: LayerNorm,
}

/// Weight and bias of a norm, one number per column.
pub(crate) struct LayerNorm {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

impl EncoderWeights {
    /// Packs the tensors of a model one after another, each with all threads. `progress` is called after each tensor with
    /// its size in the file, in bytes.
    ///
    /// # Errors
    /// If a tensor is missing, has another shape than `description` requires, or cannot be packed.
    pub fn load(
        pool: &Pool,
        description: &EncoderDescription,
        tensors: &dyn TensorSource,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self, LoadError> {
        let mut loader = Loader { packer: Packer::new(pool, tensors, progress) };
        let EncoderDescription { vocabulary, positions, token_types, width, inner, layers, .. } = *description;
        let mut embedding =
            |name: &str, rows| loader.packer.matrix(&format!("embeddings.{name}_embeddings"), rows, width);
        let mut token_type = vec![0.0; width];
        embedding("token_type", token_types)?.row(0, &mut token_type);
        Ok(Self {
            tokens: embedding("word", vocabulary)?,
            positions: embedding("position", positions)?,
            token_type,
            norm: loader.norm("embeddings.LayerNorm", width)?,
            layers: (0..layers).map(|index| loader.layer(index, width, inner)).collect::<Result<_, _>>()?,
        })
    }
}

struct Loader<'a> {
    packer: Packer<'a>,
}

impl Loader<'_> {
    fn layer(&mut self, index: usize, width: usize, inner: usize) -> Result<LayerWeights, LoadError> {
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        Ok(LayerWeights {
            query: self.packer.biased_linear(&name("attention.self.query"), width, width)?,
            key: self.packer.biased_linear(&name("attention.self.key"), width, width)?,
            value: self.packer.biased_linear(&name("attention.self.value"), width, width)?,
            attention_output: self.packer.biased_linear(&name("attention.output.dense"), width, width)?,
            attention_norm: self.norm(&name("attention.output.LayerNorm"), width)?,
            inner: self.packer.biased_linear(&name("intermediate.dense"), inner, width)?,
            output: self.packer.biased_linear(&name("output.dense"), width, inner)?,
            output_norm: self.norm(&name("output.LayerNorm"), width)?,
        })
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<LayerNorm, LoadError> {
        let weight = self.packer.vector(&format!("{name}.weight"), width)?;
        Ok(LayerNorm { weight, bias: self.packer.bias(name, width)? })
    }
}
