//! A model's weights, packed for products.

use rbee_kernels::{Isa, Kind, Matrix, PackError, Pool};

use crate::Description;

/// A tensor as it stands in a file.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    /// How its numbers are stored.
    pub kind: Kind,
    /// Rows first.
    pub shape: &'a [usize],
    /// Row after row.
    pub bytes: &'a [u8],
}

/// Where tensors come from.
pub trait Tensors {
    /// The tensor of this name, if there is one.
    fn tensor(&self, name: &str) -> Option<Tensor<'_>>;

    /// Says that so many bytes of a tensor were packed and are not needed any more.
    fn done(&self, tensor: &Tensor<'_>);
}

/// Why tensors are no weights.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A tensor that the description needs is not there.
    #[error("its tensor {name} is missing")]
    Missing {
        /// As in the file.
        name: String,
    },
    /// A tensor has another shape than the description says.
    #[error("its tensor {name} has the shape {found:?}: expected {expected:?}")]
    Shape {
        /// As in the file.
        name: String,
        /// Rows first.
        expected: Vec<usize>,
        /// Rows first.
        found: Vec<usize>,
    },
    /// A tensor cannot be packed.
    #[error("its tensor {name} cannot be used: {source}")]
    Pack {
        /// As in the file.
        name: String,
        /// Why.
        source: PackError,
    },
}

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
        isa: Isa,
        description: &Description,
        tensors: &dyn Tensors,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self, LoadError> {
        Loading { pool, isa, description, tensors, progress }.weights()
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
    pool: &'a Pool,
    isa: Isa,
    description: &'a Description,
    tensors: &'a dyn Tensors,
    progress: &'a mut dyn FnMut(usize),
}

impl<'a> Loading<'a> {
    fn weights(mut self) -> Result<Weights, LoadError> {
        let (vocabulary, width) = (self.description.vocabulary, self.description.width);
        let layers = (0..self.description.layers.len()).map(|index| self.layer(index)).collect::<Result<_, _>>()?;
        let has_output = self.tensors.tensor("output.weight").is_some();
        Ok(Weights {
            layers,
            norm: self.vector("output_norm.weight", width)?,
            output: has_output.then(|| self.matrix("output.weight", vocabulary, width)).transpose()?,
            embedding: self.matrix("token_embd.weight", vocabulary, width)?,
        })
    }

    fn layer(&mut self, index: usize) -> Result<LayerWeights, LoadError> {
        let of = |name: &str| format!("blk.{index}.{name}.weight");
        let description = self.description;
        let (width, inner) = (description.width, description.inner);
        let (queries, keys, head) = (description.query_width(), description.key_width(), description.heads.size);
        let [query, key, value] = self.attention(index, [queries, keys, keys])?;
        let [gate, up] = if description.is_fused {
            self.matrices(&of("ffn_up"), [inner, inner], width)?
        } else {
            [self.matrix(&of("ffn_gate"), inner, width)?, self.matrix(&of("ffn_up"), inner, width)?]
        };
        let mut pair = |is_there: bool, names: [&str; 2], length: usize| {
            let [first, second] = names.map(of);
            is_there.then(|| Ok([self.vector(&first, length)?, self.vector(&second, length)?])).transpose()
        };
        Ok(LayerWeights {
            head_norms: pair(description.has_head_norms, ["attn_q_norm", "attn_k_norm"], head)?,
            post_norms: pair(description.has_post_norms, ["post_attention_norm", "post_ffw_norm"], width)?,
            attention_norm: self.vector(&of("attn_norm"), width)?,
            attention_output: self.matrix(&of("attn_output"), width, queries)?,
            inner_norm: self.vector(&of("ffn_norm"), width)?,
            down: self.matrix(&of("ffn_down"), width, inner)?,
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
            self.matrices(&format!("blk.{index}.attn_qkv.weight"), rows, width)?
        } else {
            let mut one = |at: usize| self.matrix(&format!("{}.weight", names[at]), rows[at], width);
            [one(0)?, one(1)?, one(2)?]
        };
        let has_bias = self.description.has_attention_bias;
        let mut biased = |at: usize, matrix: Matrix| {
            let bias = has_bias.then(|| self.vector(&format!("{}.bias", names[at]), rows[at])).transpose()?;
            Ok(Projection { matrix, bias })
        };
        Ok([biased(0, query)?, biased(1, key)?, biased(2, value)?])
    }

    fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Matrix, LoadError> {
        let [matrix] = self.matrices(name, [rows], columns)?;
        Ok(matrix)
    }

    /// Cuts one tensor into matrices of so many rows.
    fn matrices<const N: usize>(
        &mut self,
        name: &str,
        rows: [usize; N],
        columns: usize,
    ) -> Result<[Matrix; N], LoadError> {
        let tensor = self.find(name, &[rows.iter().sum(), columns])?;
        let row_bytes = tensor.bytes.len() / rows.iter().sum::<usize>().max(1);
        let mut first = 0;
        let mut packed = Vec::with_capacity(N);
        for rows in rows {
            let bytes = &tensor.bytes[first * row_bytes..(first + rows) * row_bytes];
            let matrix = Matrix::pack(self.pool, self.isa, tensor.kind, rows, columns, bytes)
                .map_err(|source| LoadError::Pack { name: name.to_owned(), source })?;
            packed.push(matrix);
            first += rows;
        }
        self.tensors.done(&tensor);
        (self.progress)(tensor.bytes.len());
        packed.try_into().map_err(|_| LoadError::Missing { name: name.to_owned() })
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>, LoadError> {
        let tensor = self.find(name, &[length])?;
        let failed = |source| LoadError::Pack { name: name.to_owned(), source };
        let matrix = Matrix::pack(self.pool, self.isa, tensor.kind, 1, length, tensor.bytes).map_err(failed)?;
        let mut numbers = vec![0.0; length];
        matrix.row(0, &mut numbers);
        (self.progress)(tensor.bytes.len());
        Ok(numbers)
    }

    fn find(&self, name: &str, expected: &[usize]) -> Result<Tensor<'a>, LoadError> {
        let tensor = self.tensors.tensor(name).ok_or_else(|| LoadError::Missing { name: name.to_owned() })?;
        if tensor.shape != expected {
            let (expected, found) = (expected.to_vec(), tensor.shape.to_vec());
            return Err(LoadError::Shape { name: name.to_owned(), expected, found });
        }
        Ok(tensor)
    }
}
