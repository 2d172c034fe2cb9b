//! The text side of a model: template and tokenizer together.

use std::path::Path;

use rbee_schema::{Failure, FailureCode};

use super::{
    built_in, folder::Folder, invalid, metadata::Metadata, special::unused_character, template::Template,
    tokenizer::Tokenizer, turns::Turns,
};
use crate::{
    contract::{Chat, TemplateLimits, Text},
    decide::format::AnswerFormat,
};

const NO_TOOLS: &str = "the model's chat template has no place for tools, or its calls of them cannot be read: leave out \
    `tools` and `tool_calls`, or name a model whose template has (as those of Qwen 2.5 and 3, SmolLM 3, Llama 3.1, Mistral \
    and Phi 4 mini have)";

/// Template and tokenizer of one model.
pub struct ModelText {
    template: Template,
    format: AnswerFormat,
    tokenizer: Tokenizer,
}

impl ModelText {
    /// From the metadata of a file; `limits` apply to its chat template. Without a template there, one is chosen
    /// by the control tokens.
    ///
    /// # Errors
    /// `model-unsupported` for a tokenizer or template that is not known here; `model-invalid` for a vocabulary that
    /// contradicts itself.
    pub fn from_metadata(metadata: Metadata<'_>, limits: TemplateLimits) -> Result<Self, Failure> {
        Self::new(Tokenizer::from_metadata(metadata)?, metadata.optional_text("tokenizer.chat_template")?, limits)
    }

    /// From the files beside weights in the safetensors format: `tokenizer.json`, and what else is there of
    /// `tokenizer_config.json`, `chat_template.jinja`, `generation_config.json` and `config.json`.
    ///
    /// # Errors
    /// `model-missing` if there is no `tokenizer.json`; otherwise as [`ModelText::from_metadata`].
    pub fn from_folder(folder: &Path, limits: TemplateLimits) -> Result<Self, Failure> {
        let files = Folder::read(folder)?;
        Self::new(files.tokenizer()?, files.template()?.as_deref(), limits)
    }

    fn new(mut tokenizer: Tokenizer, template: Option<&str>, limits: TemplateLimits) -> Result<Self, Failure> {
        let source = template.unwrap_or_else(|| built_in::template(tokenizer.control()));
        let format = AnswerFormat::of(source);
        tokenizer.show(format.marks());
        let (begin, end) = tokenizer.begin_and_end();
        Ok(Self { template: Template::new(source, begin, end, limits)?, format, tokenizer })
    }

    /// How many tokens the vocabulary has.
    pub fn tokens(&self) -> usize {
        self.tokenizer.len()
    }
}

impl Text for ModelText {
    fn prompt(&self, chat: &Chat<'_>) -> Result<Vec<u32>, Failure> {
        if chat.has_calls() && self.format.calls.is_none() {
            return Err(Failure::new(FailureCode::InvalidRequest, NO_TOOLS));
        }
        let written = serde_json::to_string(&Turns::new(chat, &str::to_owned)?);
        let shield = unused_character(&written.map_err(|cause| invalid(cause.to_string()))?)?;
        let control = self.tokenizer.control();
        let rendered = self.template.render(Turns::new(chat, &|text| control.shield(text, shield))?)?;
        self.tokenizer.encode(&rendered, shield)
    }

    fn format(&self) -> AnswerFormat {
        self.format
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
