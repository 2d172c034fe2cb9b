//! A model's weights, packed for products.

use rbee_kernels::{Matrix, Pool};

use crate::{Description, LoadError, Packer, Tensors};

/// All weights of a model, the only copy of them.
pub struct Weights {
    pub(crate) embedding: Matrix,
    pub(crate) layers: Vec<LayerWeights>,
    pub(crate) norm: Vec<f32>,
    /// `None` where logits are products with the embedding.
    pub(crate) output: Option<Matrix>,
}

pub(crate) struct LayerWeights {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) query: Projection,
    pub(crate) key: Projection,
    pub(crate) value: Projection,
    pub(crate) head_norms: Option<[Vec<f32>; 2]>,
    pub(crate) attention_output: Matrix,
    pub(crate) post_norms: Option<[Vec<f32>; 2]>,
    pub(crate) inner_norm: Vec<f32>,
    pub(crate) gate: Matrix,
    pub(crate) up: Matrix,
    pub(crate) down: Matrix,
}

pub(crate) struct Projection {
    pub(crate) matrix: Matrix,
    pub(crate) bias: Option<Vec<f32>>,
}

impl Weights {
    /// Packs the tensors of a model, one after another, each by all threads. `progress` hears how many bytes were packed.
    ///
    /// # Errors
    /// If a tensor is missing, has another shape or cannot be packed.
    pub fn load(
        pool: &Pool,
        description: &Description,
        tensors: &dyn Tensors,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self, LoadError> {
        Loading { description, packer: Packer::new(pool, tensors, progress) }.weights()
    }

    /// Bytes that the matrices take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let layers = self.layers.iter().flat_map(LayerWeights::matrices);
        layers.chain([&self.embedding]).chain(&self.output).map(Matrix::bytes).sum()
    }

    /// The matrix whose products are the logits.
    pub(crate) fn head(&self) -> &Matrix {
        self.output.as_ref().unwrap_or(&self.embedding)
    }
}

impl LayerWeights {
    fn matrices(&self) -> [&Matrix; 7] {
        let Self { query, key, value, attention_output, gate, up, down, .. } = self;
        [&query.matrix, &key.matrix, &value.matrix, attention_output, gate, up, down]
    }
}

struct Loading<'a> {
    description: &'a Description,
    packer: Packer<'a>,
}

impl Loading<'_> {
    fn weights(mut self) -> Result<Weights, LoadError> {
        let (vocabulary, width) = (self.description.vocabulary, self.description.width);
        let layers = (0..self.description.layers.len()).map(|index| self.layer(index)).collect::<Result<_, _>>()?;
        let has_output = self.packer.has("output.weight");
        Ok(Weights {
            layers,
            norm: self.packer.vector("output_norm.weight", width)?,
            output: has_output.then(|| self.packer.matrix("output.weight", vocabulary, width)).transpose()?,
            embedding: self.packer.matrix("token_embd.weight", vocabulary, width)?,
        })
    }

    fn layer(&mut self, index: usize) -> Result<LayerWeights, LoadError> {
        let of = |name: &str| format!("blk.{index}.{name}.weight");
        let description = self.description;
        let (width, inner) = (description.width, description.inner);
        let (queries, keys, head) = (description.query_width(), description.key_width(), description.heads.size);
        let [query, key, value] = self.attention(index, [queries, keys, keys])?;
        let [gate, up] = if description.is_fused {
            self.packer.matrices(&of("ffn_up"), [inner, inner], width)?
        } else {
            [self.packer.matrix(&of("ffn_gate"), inner, width)?, self.packer.matrix(&of("ffn_up"), inner, width)?]
        };
        let mut pair = |is_there: bool, names: [&str; 2], length: usize| {
            let [first, second] = names.map(of);
            is_there
                .then(|| Ok([self.packer.vector(&first, length)?, self.packer.vector(&second, length)?]))
                .transpose()
        };
        Ok(LayerWeights {
            head_norms: pair(description.has_head_norms, ["attn_q_norm", "attn_k_norm"], head)?,
            post_norms: pair(description.has_post_norms, ["post_attention_norm", "post_ffw_norm"], width)?,
            attention_norm: self.packer.vector(&of("attn_norm"), width)?,
            attention_output: self.packer.matrix(&of("attn_output"), width, queries)?,
            inner_norm: self.packer.vector(&of("ffn_norm"), width)?,
            down: self.packer.matrix(&of("ffn_down"), width, inner)?,
            query,
            key,
            value,
            gate,
            up,
        })
    }

    fn attention(&mut self, index: usize, rows: [usize; 3]) -> Result<[Projection; 3], LoadError> {
        let names = ["attn_q", "attn_k", "attn_v"].map(|name| format!("blk.{index}.{name}"));
        let width = self.description.width;
        let [query, key, value] = if self.description.is_fused {
            self.packer.matrices(&format!("blk.{index}.attn_qkv.weight"), rows, width)?
        } else {
            let mut one = |at: usize| self.packer.matrix(&format!("{}.weight", names[at]), rows[at], width);
            [one(0)?, one(1)?, one(2)?]
        };
        let has_bias = self.description.has_attention_bias;
        let mut biased = |at: usize, matrix: Matrix| {
            let bias = has_bias.then(|| self.packer.vector(&format!("{}.bias", names[at]), rows[at])).transpose()?;
            Ok(Projection { matrix, bias })
        };
        Ok([biased(0, query)?, biased(1, key)?, biased(2, value)?])
    }
}
