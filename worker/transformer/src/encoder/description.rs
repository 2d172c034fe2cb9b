//! What a model computes, as data.

use rbee_kernels::Bend;

/// An encoder of the family of BERT (Devlin and others, 2018). Tensors are named as transformers' `BertModel` names them.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Rows of its embedding.
    pub vocabulary: usize,
    /// Positions that it has learned.
    pub positions: usize,
    /// The position of a text's first token: 0 but for RoBERTa, where it is the one behind that of padding.
    pub first_position: usize,
    /// Kinds of text that it tells apart. All of ours are of the first kind.
    pub kinds: usize,
    /// Numbers that stand for a token.
    pub width: usize,
    /// Numbers within a feed-forward part.
    pub inner: usize,
    /// Heads; their sizes together are the width.
    pub heads: usize,
    /// Layers.
    pub layers: usize,
    /// Keeps norms from dividing by zero.
    pub epsilon: f32,
    /// Of the feed-forward part.
    pub bend: Bend,
    /// How tokens become one vector.
    pub pooling: Pooling,
    /// Whether that is made one long.
    pub is_normed: bool,
}

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// That of the first token.
    First,
}

impl Description {
    /// Tokens that a text can have.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.positions.saturating_sub(self.first_position)
    }
}
