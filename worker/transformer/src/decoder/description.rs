//! Description of a decoder model, as data.

use rbee_kernels::{GateActivation, Heads, RopePairing};

/// A decoder of the family that began with "Attention Is All You Need" (Vaswani and others, 2017): all that differs between
/// its members. Tensors are named as in GGUF files.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderDescription {
    /// Context length that the model was trained for, in tokens of prompt and answer together.
    pub context: usize,
    /// Number of rows of the token embedding.
    pub vocabulary: usize,
    /// Hidden size: numbers per token between layers.
    pub width: usize,
    /// Inner size of the feed-forward part.
    pub inner: usize,
    /// Number and size of the attention heads.
    pub heads: Heads,
    /// The layers, first to last.
    pub layers: Vec<Layer>,
    /// Rotary embeddings that layers refer to by index.
    pub ropes: Vec<Rope>,
    /// Added under the root of RMS norms, against division by zero.
    pub epsilon: f32,
    /// Activation of the feed-forward gate.
    pub activation: GateActivation,
    /// Factor on token embeddings.
    pub embedding_scale: f32,
    /// Factor on attention scores.
    pub attention_scale: f32,
    /// Soft cap of attention scores, see [`rbee_kernels::soft_cap`]; `None` for no cap.
    pub attention_cap: Option<f32>,
    /// Soft cap of logits; `None` for no cap.
    pub logit_cap: Option<f32>,
    /// True if queries, keys and values have biases (`attn_q.bias` and so on).
    pub has_attention_bias: bool,
    /// True if each head of queries and keys is normed (`attn_q_norm`, `attn_k_norm`).
    pub has_head_norms: bool,
    /// True if the outputs of attention and feed-forward are normed before they are added to the residual stream
    /// (`post_attention_norm`, `post_ffw_norm`).
    pub has_post_norms: bool,
    /// True if queries, keys and values are one tensor (`attn_qkv`), and gate and up projection too (`ffn_up`, gate first).
    pub is_fused: bool,
}

/// Properties of a single layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Index of the rotary embedding of its queries and keys in [`DecoderDescription::ropes`]; `None` for no positions.
    pub rope: Option<usize>,
    /// Sliding window: number of tokens that a query attends to, its own included; `None` for all before it.
    pub window: Option<usize>,
}

/// Rotary position embedding (Su and others: RoFormer, 2021). Pair `i` of the token at position `p` is rotated by the angle
/// `p / base^(2i / dimensions)`, after scaling.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Numbers of a head that are rotated; even, at most the size of a head.
    pub dimensions: usize,
    /// Base of the angles.
    pub base: f32,
    /// Numbers of a head that form a pair.
    pub pairing: RopePairing,
    /// Change of the angles for contexts beyond those of the first training.
    pub scaling: RopeScaling,
}

/// Change of rotary angles that extends the context of a model.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// No change.
    None,
    /// All angles are divided by this factor.
    Linear(f32),
    /// The angles of each pair are divided by a factor of their own; sine and cosine are multiplied by the magnitude.
    Factors {
        /// One divisor per pair.
        factors: Vec<f32>,
        /// Factor on sine and cosine; 1 for none.
        magnitude: f32,
    },
}

impl DecoderDescription {
    /// Size of a page of keys and values, all layers together, in bytes.
    #[must_use]
    pub fn page_bytes(&self) -> usize {
        2 * self.layers.len() * self.heads.page_layer_len()
    }

    /// Numbers per token of the queries of all heads.
    #[must_use]
    pub fn query_width(&self) -> usize {
        self.heads.queries * self.heads.size
    }

    /// Numbers per token of the keys of all key-value heads; the values have as many.
    #[must_use]
    pub fn key_width(&self) -> usize {
        self.heads.key_values * self.heads.size
    }
}
