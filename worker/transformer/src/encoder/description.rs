//! Description of an encoder model, as data.

use rbee_kernels::Activation;

/// An encoder of the family of BERT (Devlin and others, 2018). Tensors are named as transformers' `BertModel` names them.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderDescription {
    /// Number of rows of the token embedding.
    pub vocabulary: usize,
    /// Number of learned positions.
    pub positions: usize,
    /// Position of the first token of a text: 0, except for RoBERTa, where it is the one after that of padding.
    pub first_position: usize,
    /// Number of token types (segments). Texts are always of type 0.
    pub token_types: usize,
    /// Hidden size: numbers per token between layers.
    pub width: usize,
    /// Inner size of the feed-forward part.
    pub inner: usize,
    /// Number of attention heads; divides the hidden size.
    pub heads: usize,
    /// Number of layers.
    pub layers: usize,
    /// Added to the variance in layer norms, against division by zero.
    pub epsilon: f32,
    /// Activation of the feed-forward part.
    pub activation: Activation,
    /// Reduction of the vectors of a text's tokens to one.
    pub pooling: Pooling,
    /// True if the vector of a text is scaled to length 1.
    pub is_normalized: bool,
}

/// Reduction of the vectors of a text's tokens to one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Mean of all tokens.
    Mean,
    /// Vector of the first token (`[CLS]`).
    First,
}

impl EncoderDescription {
    /// Largest number of tokens of a text.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.positions.saturating_sub(self.first_position)
    }
}
