//! Template and tokenizer of a model that continues chats.

use std::path::Path;

use rbee_schema::{Failure, FailureCode};

use super::{
    template::{Template, TemplateChat, built_in_template},
    token_matcher::unused_character,
    tokenizer::Tokenizer,
    tokenizer_files::TokenizerFiles,
};
use crate::{
    contract::{Chat, TemplateLimits, Text},
    decide::markup::AnswerMarkup,
    model_file::{error::invalid, gguf::Metadata},
};

const NO_TOOLS: &str = "the model's chat template does not support tools, or its tool calls cannot be parsed: leave out `tools` \
    and `tool_calls`, or name a model whose template supports them (such as Qwen 2.5 and 3, SmolLM 3, Llama 3.1, Mistral and \
    Phi 4 mini)";

/// Template and tokenizer of one model.
pub struct ModelText {
    template: Template,
    markup: AnswerMarkup,
    tokenizer: Tokenizer,
}

impl ModelText {
    /// Reads the tokenizer and the chat template of a GGUF file. If the file has no template, a built-in one is chosen by the
    /// control tokens.
    ///
    /// # Errors
    /// `model-unsupported` for a kind of tokenizer or a template that is not supported; `model-invalid` for a vocabulary that
    /// contradicts itself.
    pub fn from_metadata(metadata: Metadata<'_>, limits: TemplateLimits) -> Result<Self, Failure> {
        Self::new(Tokenizer::from_metadata(metadata)?, metadata.optional_text("tokenizer.chat_template")?, limits)
    }

    /// Reads the files beside weights in the safetensors format: `tokenizer.json`, and those that exist of
    /// `tokenizer_config.json`, `chat_template.jinja`, `generation_config.json` and `config.json`.
    ///
    /// # Errors
    /// `model-missing` if there is no `tokenizer.json`; otherwise as [`ModelText::from_metadata`].
    pub fn from_folder(folder: &Path, limits: TemplateLimits) -> Result<Self, Failure> {
        let files = TokenizerFiles::read(folder)?;
        Self::new(files.tokenizer()?, files.template()?.as_deref(), limits)
    }

    fn new(mut tokenizer: Tokenizer, template: Option<&str>, limits: TemplateLimits) -> Result<Self, Failure> {
        let source = template.unwrap_or_else(|| built_in_template(tokenizer.control_tokens()));
        let markup = AnswerMarkup::from_template(source);
        tokenizer.show_in_answers(markup.marks());
        let (bos, eos) = tokenizer.bos_and_eos();
        Ok(Self { template: Template::new(source, bos, eos, limits)?, markup, tokenizer })
    }

    /// Number of tokens in the vocabulary.
    pub fn vocabulary_size(&self) -> usize {
        self.tokenizer.len()
    }
}

impl Text for ModelText {
    fn prompt(&self, chat: &Chat<'_>) -> Result<Vec<u32>, Failure> {
        if chat.has_calls() && self.markup.calls.is_none() {
            return Err(Failure::new(FailureCode::InvalidRequest, NO_TOOLS));
        }
        let unescaped = serde_json::to_string(&TemplateChat::new(chat, &str::to_owned)?);
        let escape = unused_character(&unescaped.map_err(|cause| invalid(cause.to_string()))?)?;
        let control_tokens = self.tokenizer.control_tokens();
        let escaped = TemplateChat::new(chat, &|text| control_tokens.escape(text, escape))?;
        self.tokenizer.encode(&self.template.render(escaped)?, escape)
    }

    fn count_tokens(&self, part: &str) -> Result<usize, Failure> {
        // The character that is removed is one that no text has.
        Ok(self.tokenizer.encode(part, '\u{FDD0}')?.len())
    }

    fn markup(&self) -> AnswerMarkup {
        self.markup
    }

    fn piece(&self, token: u32) -> &[u8] {
        self.tokenizer.piece(token)
    }

    fn token_count(&self) -> u32 {
        self.tokenizer.len() as u32
    }

    fn eos_tokens(&self) -> Vec<u32> {
        self.tokenizer.stop_tokens()
    }
}
