//! Weights of a decoder, packed for products.

use rbee_kernels::{Matrix, Pool};

use super::description::DecoderDescription;
use crate::{
    linear::Linear,
    packer::Packer,
    tensor::{LoadError, TensorSource},
};

/// All weights of a decoder. They are held once, in packed form.
pub struct DecoderWeights {
    /// Token embedding: one row per token of the vocabulary.
    pub(crate) embedding: Matrix,
    pub(crate) layers: Vec<LayerWeights>,
    /// Norm before the output projection.
    pub(crate) norm: Vec<f32>,
    /// Output projection; `None` if it is the token embedding (tied weights).
    pub(crate) output: Option<Matrix>,
}

pub(crate) struct LayerWeights {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) head_norms: Option<HeadNorms>,
    pub(crate) attention_output: Linear,
    pub(crate) post_norms: Option<PostNorms>,
    pub(crate) feed_forward_norm: Vec<f32>,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// Norms of each head of queries and keys.
pub(crate) struct HeadNorms {
    pub(crate) query: Vec<f32>,
    pub(crate) key: Vec<f32>,
}

/// Norms of the outputs of attention and feed-forward.
pub(crate) struct PostNorms {
    pub(crate) attention: Vec<f32>,
    pub(crate) feed_forward: Vec<f32>,
}

impl DecoderWeights {
    /// Packs the tensors of a model one after another, each with all threads. `progress` is called after each tensor with
    /// its size in the file, in bytes.
    ///
    /// # Errors
    /// If a tensor is missing, has another shape than `description` requires, or cannot be packed.
    pub fn load(
        pool: &Pool,
        description: &DecoderDescription,
        tensors: &dyn TensorSource,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self, LoadError> {
        Loader { description, packer: Packer::new(pool, tensors, progress) }.load()
    }

    /// The matrix whose products with the last hidden state are the logits.
    pub(crate) fn output_projection(&self) -> &Matrix {
        self.output.as_ref().unwrap_or(&self.embedding)
    }
}

struct Loader<'a> {
    description: &'a DecoderDescription,
    packer: Packer<'a>,
}

impl Loader<'_> {
    fn load(mut self) -> Result<DecoderWeights, LoadError> {
        let (vocabulary, width) = (self.description.vocabulary, self.description.width);
        let layers = (0..self.description.layers.len()).map(|index| self.layer(index)).collect::<Result<_, _>>()?;
        let has_output = self.packer.has("output.weight");
        Ok(DecoderWeights {
            layers,
            norm: self.packer.vector("output_norm.weight", width)?,
            output: has_output.then(|| self.packer.matrix("output", vocabulary, width)).transpose()?,
            embedding: self.packer.matrix("token_embd", vocabulary, width)?,
        })
    }

    fn layer(&mut self, index: usize) -> Result<LayerWeights, LoadError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (width, inner) = (self.description.width, self.description.inner);
        let [query, key, value] = self.query_key_value(index)?;
        let [gate, up] = self.gate_and_up(index)?;
        Ok(LayerWeights {
            head_norms: self.head_norms(index)?,
            post_norms: self.post_norms(index)?,
            attention_norm: self.norm(index, "attn_norm", width)?,
            attention_output: self.packer.linear(&name("attn_output"), width, self.description.query_width())?,
            feed_forward_norm: self.norm(index, "ffn_norm", width)?,
            down: self.packer.linear(&name("ffn_down"), width, inner)?,
            query,
            key,
            value,
            gate,
            up,
        })
    }

    fn query_key_value(&mut self, index: usize) -> Result<[Linear; 3], LoadError> {
        let names = ["attn_q", "attn_k", "attn_v"].map(|name| format!("blk.{index}.{name}"));
        let (queries, keys) = (self.description.query_width(), self.description.key_width());
        let (width, rows) = (self.description.width, [queries, keys, keys]);
        let [query, key, value] = if self.description.is_fused {
            self.packer.matrices(&format!("blk.{index}.attn_qkv"), rows, width)?
        } else {
            let mut matrix = |at: usize| self.packer.matrix(&names[at], rows[at], width);
            [matrix(0)?, matrix(1)?, matrix(2)?]
        };
        let has_bias = self.description.has_attention_bias;
        let mut linear = |at: usize, matrix: Matrix| {
            let bias = has_bias.then(|| self.packer.bias(&names[at], rows[at])).transpose()?;
            Ok(Linear { matrix, bias })
        };
        Ok([linear(0, query)?, linear(1, key)?, linear(2, value)?])
    }

    fn gate_and_up(&mut self, index: usize) -> Result<[Linear; 2], LoadError> {
        let (width, inner) = (self.description.width, self.description.inner);
        let (gate, up) = (format!("blk.{index}.ffn_gate"), format!("blk.{index}.ffn_up"));
        if self.description.is_fused {
            let matrices = self.packer.matrices(&up, [inner, inner], width)?;
            return Ok(matrices.map(|matrix| Linear { matrix, bias: None }));
        }
        Ok([self.packer.linear(&gate, inner, width)?, self.packer.linear(&up, inner, width)?])
    }

    fn head_norms(&mut self, index: usize) -> Result<Option<HeadNorms>, LoadError> {
        if !self.description.has_head_norms {
            return Ok(None);
        }
        let size = self.description.heads.size;
        let (query, key) = (self.norm(index, "attn_q_norm", size)?, self.norm(index, "attn_k_norm", size)?);
        Ok(Some(HeadNorms { query, key }))
    }

    fn post_norms(&mut self, index: usize) -> Result<Option<PostNorms>, LoadError> {
        if !self.description.has_post_norms {
            return Ok(None);
        }
        let width = self.description.width;
        let attention = self.norm(index, "post_attention_norm", width)?;
        Ok(Some(PostNorms { attention, feed_forward: self.norm(index, "post_ffw_norm", width)? }))
    }

    fn norm(&mut self, index: usize, name: &str, length: usize) -> Result<Vec<f32>, LoadError> {
        self.packer.vector(&format!("blk.{index}.{name}.weight"), length)
    }
}
