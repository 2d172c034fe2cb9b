//! The text side of a model: template and tokenizer together.

use std::path::Path;

use rbee_schema::{Failure, Message};

use super::{
    built_in,
    folder::Folder,
    metadata::Metadata,
    special::unused_character,
    template::{Bounds, Template, Turn},
    tokenizer::Tokenizer,
};
use crate::engine::Text;

/// Template and tokenizer of one model.
pub struct ModelText {
    template: Template,
    tokenizer: Tokenizer,
}

impl ModelText {
    /// From the metadata of a file; `bounds` say how much its chat template may take. Without a template there, one is chosen
    /// by the control tokens.
    ///
    /// # Errors
    /// `model-unsupported` for a tokenizer or template that is not known here; `model-invalid` for a vocabulary that
    /// contradicts itself.
    pub fn from_metadata(metadata: Metadata<'_>, bounds: Bounds) -> Result<Self, Failure> {
        Self::new(Tokenizer::from_metadata(metadata)?, metadata.optional_text("tokenizer.chat_template")?, bounds)
    }

    /// From the files beside weights in the safetensors format: `tokenizer.json`, and what else is there of
    /// `tokenizer_config.json`, `chat_template.jinja`, `generation_config.json` and `config.json`.
    ///
    /// # Errors
    /// `model-missing` if there is no `tokenizer.json`; otherwise as [`ModelText::from_metadata`].
    pub fn from_folder(folder: &Path, bounds: Bounds) -> Result<Self, Failure> {
        let files = Folder::read(folder)?;
        Self::new(files.tokenizer()?, files.template()?.as_deref(), bounds)
    }

    fn new(tokenizer: Tokenizer, template: Option<&str>, bounds: Bounds) -> Result<Self, Failure> {
        let source = template.unwrap_or_else(|| built_in::template(tokenizer.control()));
        let (begin, end) = tokenizer.begin_and_end();
        Ok(Self { template: Template::new(source, begin, end, bounds)?, tokenizer })
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

    fn size(&self) -> u32 {
        self.tokenizer.len() as u32
    }

    fn ends(&self) -> Vec<u32> {
        self.tokenizer.ends()
    }
}
