//! Reads the answer of a job so far from the chunks that are stored.

use std::iter::Sum;

use rbee_schema::{Chunk, ToolCall};

/// The token ids of a chunk.
pub fn token_ids(chunk: &Chunk) -> &[u32] {
    match chunk {
        Chunk::Tokens { ids, .. } => ids,
        Chunk::Started { .. }
        | Chunk::Resumed { .. }
        | Chunk::Paused { .. }
        | Chunk::Embeddings { .. }
        | Chunk::Done { .. }
        | Chunk::Error { .. } => &[],
    }
}

/// Amount of text that chunks have released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Released {
    /// Bytes of text.
    pub text: usize,
    /// Bytes of reasoning.
    pub reasoning: usize,
    /// Number of tool calls.
    pub calls: usize,
}

impl Released {
    /// Amount of these texts and calls.
    pub fn of(text: &str, reasoning: &str, calls: &[ToolCall]) -> Self {
        Self { text: text.len(), reasoning: reasoning.len(), calls: calls.len() }
    }

    /// Amount that a chunk has released.
    pub fn by(chunk: &Chunk) -> Self {
        match chunk {
            Chunk::Tokens { text, reasoning, calls, .. } => Self::of(text, reasoning, calls),
            Chunk::Started { .. }
            | Chunk::Resumed { .. }
            | Chunk::Paused { .. }
            | Chunk::Embeddings { .. }
            | Chunk::Done { .. }
            | Chunk::Error { .. } => Self::default(),
        }
    }

    /// True if nothing of any kind is more than in `other`.
    pub fn is_within(self, other: Self) -> bool {
        self.text <= other.text && self.reasoning <= other.reasoning && self.calls <= other.calls
    }
}

impl Sum for Released {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, next| Self {
            text: sum.text + next.text,
            reasoning: sum.reasoning + next.reasoning,
            calls: sum.calls + next.calls,
        })
    }
}
