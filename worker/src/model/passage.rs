//! The text side of an encoder: texts become tokens as `tokenizer.json` says, all of it: with the tokens that stand before and
//! behind a text, and with tokens of the model's own where a text writes them, as sentence-transformers does.

use std::path::Path;

use rbee_schema::{EmbeddingInput, Failure, FailureCode};
use tokenizers::{Encoding, Token, Tokenizer, TruncationParams};

use super::{invalid, shown};
use crate::{
    contract::{Chat, Text},
    decide::format::AnswerFormat,
};

/// The tokenizer of an encoder.
pub struct Passages {
    tokenizer: Tokenizer,
    prompt: String,
}

impl Passages {
    /// The tokenizer of a folder, which cuts texts behind so many tokens and puts `prompt` before them.
    ///
    /// # Errors
    /// `model-missing` if there is no `tokenizer.json`; `model-invalid` if it cannot be used.
    pub fn from_folder(folder: &Path, longest: usize, prompt: String) -> Result<Self, Failure> {
        let document = super::folder::json(folder, "tokenizer.json")?;
        if document.is_null() {
            let message = "it has no tokenizer.json: copy that file beside the weights";
            return Err(Failure::new(FailureCode::ModelMissing, message));
        }
        let unusable = |cause: &dyn std::fmt::Display| {
            invalid(format!("its tokenizer.json cannot be used: {}", shown(&cause.to_string())))
        };
        let mut tokenizer: Tokenizer = serde_json::from_value(document).map_err(|cause| unusable(&cause))?;
        // What the file says of these is how its makers last used it.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|cause| unusable(&cause))?;
        let around = tokenizer.encode_fast("", true).map_err(|cause| unusable(&cause))?.len();
        if around >= longest {
            return Err(invalid(format!("its tokenizer.json puts {around} tokens around each text of {longest}")));
        }
        let cut = TruncationParams { max_length: longest, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(cut)).map_err(|cause| unusable(&cause))?;
        Ok(Self { tokenizer, prompt })
    }

    /// How many tokens the vocabulary has.
    pub fn tokens(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Tokens that somebody else made of a text.
    fn made(&self, ids: &[u32]) -> Result<Encoding, Failure> {
        let token = |id: &u32| match self.tokenizer.id_to_token(*id) {
            Some(value) => Ok(Token::new(*id, value, (0, 0))),
            None => Err(Failure::new(
                FailureCode::InvalidRequest,
                format!("input has the token {id}: the model has {} tokens", self.tokens()),
            )),
        };
        let tokens = ids.iter().map(token).collect::<Result<Vec<Token>, Failure>>()?;
        Ok(Encoding::from_tokens(tokens, 0))
    }
}

impl Text for Passages {
    fn prompt(&self, _: &Chat<'_>) -> Result<Vec<u32>, Failure> {
        Err(Failure::new(
            FailureCode::InvalidRequest,
            "the model computes embeddings and continues no chat: send `input`, or name another model",
        ))
    }

    fn format(&self) -> AnswerFormat {
        AnswerFormat::default()
    }

    fn passage(&self, input: &EmbeddingInput) -> Result<Vec<u32>, Failure> {
        let encoded = match input {
            EmbeddingInput::Text(text) => self.tokenizer.encode_fast(format!("{}{text}", self.prompt), true),
            EmbeddingInput::Tokens(ids) => self.tokenizer.post_process(self.made(ids)?, None, true),
        };
        let ids = encoded.map_err(|cause| invalid(cause.to_string()))?.get_ids().to_vec();
        if ids.is_empty() {
            return Err(Failure::new(FailureCode::InvalidRequest, "input holds a text of no tokens: leave it out"));
        }
        Ok(ids)
    }

    fn size(&self) -> u32 {
        u32::try_from(self.tokenizer.get_vocab_size(true)).unwrap_or(u32::MAX)
    }

    fn piece(&self, _: u32) -> &[u8] {
        &[]
    }

    fn ends(&self) -> Vec<u32> {
        Vec::new()
    }
}
