//! The text side of a model.

use rbee_schema::{EmbeddingInput, Failure, FailureCode};

use super::chat::Chat;
use crate::decide::markup::AnswerMarkup;

/// The text side of a model: its chat template and its vocabulary.
pub trait Text: Send + Sync {
    /// Renders a chat with the model's template, up to the point where the answer begins, and tokenizes it.
    ///
    /// # Errors
    /// `invalid-request` if the model's template refuses the chat, for example because of the order of its roles, or if
    /// the chat has tools and the template does not support them.
    fn prompt(&self, chat: &Chat<'_>) -> Result<Vec<u32>, Failure>;

    /// Number of tokens of a part of a message, tokenized on its own. With it a chat that is much too long is refused before it
    /// is rendered.
    ///
    /// # Errors
    /// `model-invalid` if the vocabulary cannot express the text.
    fn count_tokens(&self, part: &str) -> Result<usize, Failure>;

    /// The marks with which the model writes reasoning and tool calls.
    fn markup(&self) -> AnswerMarkup;

    /// The tokens of an input of an embeddings request, as the model reads them: with the special tokens that stand before
    /// and behind every input, and truncated to the longest input of the model.
    ///
    /// # Errors
    /// `invalid-request` if this model computes no embeddings, or if token ids of the input are not in its vocabulary.
    fn encode_input(&self, input: &EmbeddingInput) -> Result<Vec<u32>, Failure> {
        let _ = input;
        Err(no_embeddings())
    }

    /// The bytes of a token. They may be any part of a UTF-8 text, not always whole characters. Empty for ids outside the
    /// vocabulary and for control tokens, except those that are marks of [`Text::markup`].
    fn piece(&self, token: u32) -> &[u8];

    /// Number of tokens in the vocabulary. Ids run from 0 to `token_count() - 1`.
    fn token_count(&self) -> u32;

    /// The tokens that end an answer. They are not part of its text.
    fn eos_tokens(&self) -> Vec<u32>;
}

/// The refusal of an embeddings request by a model that continues chats.
pub(super) fn no_embeddings() -> Failure {
    Failure::new(
        FailureCode::InvalidRequest,
        "the model continues chats and computes no embeddings: send `messages`, or name an embeddings model",
    )
}
