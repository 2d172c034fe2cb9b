//! Hyperparameters that all decoder architectures share, with checks of every number.

use rbee_kernels::{Heads, MAX_HEAD_SIZE};
use rbee_schema::Failure;
use rbee_transformer::{
    DecoderDescription, GateActivation, Layer, Rope, RopePairing, RopeScaling, TensorSource, WeightType,
};

use crate::model_file::{
    error::{invalid, unsupported},
    gguf::Metadata,
};

/// Smallest context in tokens that a file may declare.
const MIN_CONTEXT: u32 = 16;
/// The head size is a multiple of this.
const HEAD_STEP: usize = 16;

/// Metadata of a model, whose keys have the name of the architecture as prefix.
pub(super) struct Hyperparameters<'a> {
    metadata: Metadata<'a>,
    tensors: &'a dyn TensorSource,
    name: &'a str,
    /// Requested context in tokens. The model's own limit may be lower.
    pub(super) context: u32,
}

impl<'a> Hyperparameters<'a> {
    pub(super) fn new(metadata: Metadata<'a>, tensors: &'a dyn TensorSource, context: u32) -> Result<Self, Failure> {
        Ok(Self { metadata, tensors, name: metadata.text("general.architecture")?, context })
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    /// Count that must be present and at least 1.
    pub(super) fn count(&self, key: &str) -> Result<usize, Failure> {
        match self.metadata.count(&self.key(key))? {
            0 => Err(invalid(format!("{} in the header is 0", self.key(key)))),
            count => Ok(count as usize),
        }
    }

    pub(super) fn optional_count(&self, key: &str) -> Result<Option<usize>, Failure> {
        Ok(self.metadata.optional_count(&self.key(key))?.map(|count| count as usize))
    }

    /// Number above 0 that may be missing.
    pub(super) fn number(&self, key: &str) -> Result<Option<f32>, Failure> {
        match self.metadata.optional_number(&self.key(key))? {
            Some(number) if number <= 0.0 => {
                Err(invalid(format!("{} in the header is {number}: expected more than 0", self.key(key))))
            }
            number => Ok(number),
        }
    }

    /// Numbers of a tensor of 32-bit floats that may be missing.
    pub(super) fn floats(&self, name: &str, count: usize) -> Result<Option<Vec<f32>>, Failure> {
        let Some(tensor) = self.tensors.tensor(name) else { return Ok(None) };
        if tensor.weight_type != WeightType::F32 || tensor.shape != [count] {
            let (kind, shape) = (tensor.weight_type, tensor.shape);
            return Err(invalid(format!("the tensor {name} is {kind:?} {shape:?}: expected F32 [{count}]")));
        }
        let numbers: Vec<f32> = tensor.bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        match numbers.iter().find(|number| !number.is_finite() || **number <= 0.0) {
            Some(wrong) => Err(invalid(format!("the tensor {name} contains {wrong}: expected numbers above 0"))),
            None => Ok(Some(numbers)),
        }
    }

    /// Description of a Llama model. Other architectures change parts of it.
    pub(super) fn base_description(&self, pairs: RopePairing) -> Result<DecoderDescription, Failure> {
        self.check_is_dense()?;
        let heads = self.heads()?;
        let layers = self.count("block_count")?;
        // Checked before memory is allocated for the layers.
        if self.tensors.tensor(&format!("blk.{}.attn_norm.weight", layers - 1)).is_none() {
            return Err(invalid(format!(
                "the header announces {layers} blocks, but there are no tensors of the last one"
            )));
        }
        let (width, context) = (self.count("embedding_length")?, self.context()?);
        let embedding = self.tensors.tensor("token_embd.weight");
        Ok(DecoderDescription {
            context: context as usize,
            vocabulary: embedding.and_then(|tensor| tensor.shape.first().copied()).unwrap_or(0),
            width,
            inner: self.count("feed_forward_length")?,
            heads,
            layers: vec![Layer { rope: Some(0), window: None }; layers],
            ropes: vec![self.rope(heads.size, pairs)?],
            epsilon: self.number("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5),
            activation: GateActivation::Silu,
            embedding_scale: 1.0,
            attention_scale: 1.0 / (heads.size as f32).sqrt(),
            attention_cap: None,
            logit_cap: None,
            has_attention_bias: false,
            has_head_norms: false,
            has_post_norms: false,
            is_fused: false,
        })
    }

    fn context(&self) -> Result<u32, Failure> {
        let context = self.count("context_length")? as u32;
        if context < MIN_CONTEXT {
            return Err(invalid(format!("the context is {context} tokens: expected at least {MIN_CONTEXT}")));
        }
        Ok(context)
    }

    fn heads(&self) -> Result<Heads, Failure> {
        let (width, queries) = (self.count("embedding_length")?, self.count("attention.head_count")?);
        let key_values = match self.optional_count("attention.head_count_kv")? {
            None => queries,
            Some(_) => self.count("attention.head_count_kv")?,
        };
        let size = match self.optional_count("attention.key_length")? {
            Some(size) => size,
            None if width.is_multiple_of(queries) => width / queries,
            None => {
                return Err(invalid(format!("{width} dimensions and {queries} heads do not divide each other")));
            }
        };
        if self.optional_count("attention.value_length")?.is_some_and(|values| values != size) {
            return Err(unsupported(format!(
                "the value heads have another size than the key heads, which have {size} numbers"
            )));
        }
        if !queries.is_multiple_of(key_values) {
            return Err(invalid(format!("{queries} heads and {key_values} key-value heads do not divide each other")));
        }
        if size == 0 || !size.is_multiple_of(HEAD_STEP) || size > MAX_HEAD_SIZE {
            return Err(unsupported(format!(
                "the heads have {size} numbers: supported are multiples of {HEAD_STEP} up to {MAX_HEAD_SIZE}"
            )));
        }
        Ok(Heads { queries, key_values, size })
    }

    /// Rotary position parameters.
    fn rope(&self, head: usize, pairs: RopePairing) -> Result<Rope, Failure> {
        let dimensions = self.optional_count("rope.dimension_count")?.unwrap_or(head);
        if dimensions == 0 || dimensions > head || !dimensions.is_multiple_of(2) {
            return Err(invalid(format!(
                "{dimensions} of the {head} dimensions of a head are rotary: expected an even number up to {head}"
            )));
        }
        let base = self.number("rope.freq_base")?.unwrap_or(10_000.0);
        Ok(Rope { dimensions, base, pairing: pairs, scaling: self.scaling(dimensions / 2)? })
    }

    fn scaling(&self, pairs: usize) -> Result<RopeScaling, Failure> {
        if let Some(factors) = self.floats("rope_freqs.weight", pairs)? {
            return Ok(RopeScaling::Factors { factors, magnitude: 1.0 });
        }
        match self.metadata.optional_text(&self.key("rope.scaling.type"))? {
            // The factors of `longrope` are tensors, which its architecture reads.
            None | Some("none" | "longrope") => Ok(RopeScaling::None),
            Some("linear") => Ok(self.number("rope.scaling.factor")?.map_or(RopeScaling::None, RopeScaling::Linear)),
            Some(kind) => Err(unsupported(format!(
                "rotary positions are scaled by {kind:?}: supported are none, linear, longrope, and a tensor of factors"
            ))),
        }
    }

    fn check_is_dense(&self) -> Result<(), Failure> {
        match self.optional_count("expert_count")? {
            Some(experts @ 2..) => Err(unsupported(format!(
                "the model is a mixture of {experts} experts: only dense models are supported"
            ))),
            _ => Ok(()),
        }
    }
}
