//! The text side of a model file: template and tokenizer together.

use rbee_schema::{Failure, Message};

use super::{
    metadata::Metadata,
    special::unused_character,
    template::{Template, Turn},
    tokenizer::Tokenizer,
    unsupported,
};
use crate::engine::Text;

/// Template and tokenizer of one model.
pub struct ModelText {
    template: Template,
    tokenizer: Tokenizer,
}

impl ModelText {
    /// From the metadata of a file.
    ///
    /// # Errors
    /// `model-unsupported` for a tokenizer or template that is not known here, or for a model that has no template;
    /// `model-invalid` for a vocabulary that contradicts itself.
    pub fn from_metadata(metadata: Metadata<'_>) -> Result<Self, Failure> {
        let tokenizer = Tokenizer::from_metadata(metadata)?;
        let source = metadata.optional_text("tokenizer.chat_template")?.ok_or_else(|| {
            unsupported(
                "it has no chat template: it is a base model, not one made for chats; choose its instruct variant",
            )
        })?;
        let (begin, end) = tokenizer.begin_and_end();
        Ok(Self { template: Template::new(source, begin, end)?, tokenizer })
    }

    /// How many tokens the vocabulary has.
    pub fn tokens(&self) -> usize {
        self.tokenizer.len()
    }
}

impl Text for ModelText {
    fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>, Failure> {
        let shield = unused_character(messages)?;
        let control = self.tokenizer.control();
        let turn = |message: &Message| Turn { role: message.role, content: control.shield(&message.content, shield) };
        let rendered = self.template.render(&messages.iter().map(turn).collect::<Vec<Turn>>())?;
        self.tokenizer.encode(&rendered, shield)
    }

    fn piece(&self, token: u32) -> &[u8] {
        self.tokenizer.piece(token)
    }

    fn ends(&self) -> Vec<u32> {
        self.tokenizer.ends()
    }
}
