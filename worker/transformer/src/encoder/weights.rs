//! A model's weights, packed for products.

use crate::{LoadError, Packer, Tensors};
use rbee_kernels::{Matrix, Pool};

use super::Description;

/// All weights of a model, the only copy of them.
pub struct Weights {
    pub(crate) words: Matrix,
    pub(crate) positions: Matrix,
    pub(crate) kind: Vec<f32>,
    pub(crate) norm: Norm,
    pub(crate) layers: Vec<LayerWeights>,
}

pub(crate) struct LayerWeights {
    pub(crate) query: Dense,
    pub(crate) key: Dense,
    pub(crate) value: Dense,
    pub(crate) attention_output: Dense,
    pub(crate) attention_norm: Norm,
    pub(crate) inner: Dense,
    pub(crate) output: Dense,
    pub(crate) norm: Norm,
}

/// A product and what is added to it.
pub(crate) struct Dense {
    pub(crate) matrix: Matrix,
    pub(crate) bias: Vec<f32>,
}

pub(crate) struct Norm {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
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
        let mut loading = Loading { packer: Packer::new(pool, tensors, progress) };
        let Description { vocabulary, positions, kinds, width, inner, layers, .. } = *description;
        let matrix = |loading: &mut Loading<'_>, name: &str, rows| {
            loading.packer.matrix(&format!("embeddings.{name}_embeddings.weight"), rows, width)
        };
        let mut kind = vec![0.0; width];
        matrix(&mut loading, "token_type", kinds)?.row(0, &mut kind);
        Ok(Self {
            words: matrix(&mut loading, "word", vocabulary)?,
            positions: matrix(&mut loading, "position", positions)?,
            kind,
            norm: loading.norm("embeddings.LayerNorm", width)?,
            layers: (0..layers).map(|index| loading.layer(index, width, inner)).collect::<Result<_, _>>()?,
        })
    }
}

struct Loading<'a> {
    packer: Packer<'a>,
}

impl Loading<'_> {
    fn layer(&mut self, index: usize, width: usize, inner: usize) -> Result<LayerWeights, LoadError> {
        let of = |name: &str| format!("encoder.layer.{index}.{name}");
        Ok(LayerWeights {
            query: self.dense(&of("attention.self.query"), width, width)?,
            key: self.dense(&of("attention.self.key"), width, width)?,
            value: self.dense(&of("attention.self.value"), width, width)?,
            attention_output: self.dense(&of("attention.output.dense"), width, width)?,
            attention_norm: self.norm(&of("attention.output.LayerNorm"), width)?,
            inner: self.dense(&of("intermediate.dense"), inner, width)?,
            output: self.dense(&of("output.dense"), width, inner)?,
            norm: self.norm(&of("output.LayerNorm"), width)?,
        })
    }

    fn dense(&mut self, name: &str, rows: usize, columns: usize) -> Result<Dense, LoadError> {
        let matrix = self.packer.matrix(&format!("{name}.weight"), rows, columns)?;
        Ok(Dense { matrix, bias: self.packer.vector(&format!("{name}.bias"), rows)? })
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<Norm, LoadError> {
        let mut vector = |part: &str| self.packer.vector(&format!("{name}.{part}"), width);
        Ok(Norm { weight: vector("weight")?, bias: vector("bias")? })
    }
}
