//! What a model computes, as data.

use rbee_kernels::{Activation, Heads, Pairs};

/// A decoder of the family that began with "Attention Is All You Need" (Vaswani and others, 2017), as its members differ.
/// Tensors are named as in GGUF files.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Tokens that it was made for, prompt and answer together.
    pub context: usize,
    /// Rows of its embedding.
    pub vocabulary: usize,
    /// Numbers that stand for a token between layers.
    pub width: usize,
    /// Numbers within a feed-forward part.
    pub inner: usize,
    /// Its heads.
    pub heads: Heads,
    /// Its layers, in order.
    pub layers: Vec<Layer>,
    /// What layers' positions choose from.
    pub ropes: Vec<Rope>,
    /// Keeps norms from dividing by zero.
    pub epsilon: f32,
    /// Of the feed-forward gate.
    pub activation: Activation,
    /// What embeddings are multiplied with.
    pub embedding_scale: f32,
    /// What attention scores are multiplied with.
    pub attention_scale: f32,
    /// What attention scores are bent below.
    pub attention_cap: Option<f32>,
    /// What logits are bent below.
    pub logit_cap: Option<f32>,
    /// Queries, keys and values have biases (`attn_q.bias` and so on).
    pub has_attention_bias: bool,
    /// Each head of queries and keys is normed (`attn_q_norm`, `attn_k_norm`).
    pub has_head_norms: bool,
    /// What attention and feed-forward give is normed before it is added (`post_attention_norm`, `post_ffw_norm`).
    pub has_post_norms: bool,
    /// Queries, keys and values are one tensor (`attn_qkv`), gates and values too (`ffn_up`, gates first).
    pub is_fused: bool,
}

/// What a layer has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Which of the ropes turns its queries and keys; `None` for no positions.
    pub rope: Option<usize>,
    /// How many tokens it sees; `None` for all.
    pub window: Option<usize>,
}

/// Rotary positions: pair `i` of token `p` turns by `p / base^(2i / dimensions)`, after scaling.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Numbers of a head that turn; even, at most its size.
    pub dimensions: usize,
    /// Of the angles.
    pub base: f32,
    /// Which numbers turn together.
    pub pairs: Pairs,
    /// How positions were stretched beyond those of the first training.
    pub scaling: Scaling,
}

/// How angles of positions are changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    /// They are not.
    None,
    /// All are divided by this.
    Linear(f32),
    /// Those of each pair are divided by its factor; sine and cosine are multiplied with the magnitude.
    Factors {
        /// One for each pair.
        factors: Vec<f32>,
        /// 1 where nothing is to be multiplied.
        magnitude: f32,
    },
}

impl Description {
    /// Bytes that the keys and values of a page of tokens take, all layers together.
    #[must_use]
    pub fn page_bytes(&self) -> usize {
        2 * self.layers.len() * self.heads.page_layer()
    }

    /// Numbers of a query, all heads together.
    #[must_use]
    pub fn query_width(&self) -> usize {
        self.heads.queries * self.heads.size
    }

    /// Numbers of a key or of a value, all heads together.
    #[must_use]
    pub fn key_width(&self) -> usize {
        self.heads.key_values * self.heads.size
    }
}
