//! Tokenizer of an encoder: texts become tokens exactly as `tokenizer.json` says.
//!
//! Unlike in a chat, the tokenizer adds tokens before and after a text, and recognizes the texts of control tokens in the
//! input. sentence-transformers does the same.

use std::path::Path;

use rbee_schema::{EmbeddingInput, Failure, FailureCode, MAX_BODY_BYTES};
use tokenizers::{Encoding, Token, Tokenizer, TruncationParams};

use crate::{
    contract::{Chat, Text},
    decide::markup::AnswerMarkup,
    model_file::{
        error::{invalid, printable},
        json_file::read_json,
    },
};

/// Length beyond which an input is not read: bytes of a text, or tokens. Models truncate inputs to some thousand tokens, and a
/// token has a few bytes.
const LONGEST_INPUT: usize = MAX_BODY_BYTES;

/// Tokenizer of an encoder, with the prompt that is put before each text.
pub struct EncoderText {
    tokenizer: Tokenizer,
    prompt: String,
}

impl EncoderText {
    /// Reads the tokenizer of a folder. It truncates inputs to `max_tokens` tokens and puts `prompt` before each text.
    ///
    /// # Errors
    /// `model-missing` if there is no `tokenizer.json`; `model-invalid` if it cannot be used.
    pub fn from_folder(folder: &Path, max_tokens: usize, prompt: String) -> Result<Self, Failure> {
        let document = read_json(folder, "tokenizer.json")?;
        if document.is_null() {
            let message = "the folder has no tokenizer.json: copy that file beside the weights";
            return Err(Failure::new(FailureCode::ModelMissing, message));
        }
        let unusable = |cause: &dyn std::fmt::Display| {
            invalid(format!("tokenizer.json cannot be used: {}", printable(&cause.to_string())))
        };
        let mut tokenizer: Tokenizer = serde_json::from_value(document).map_err(|cause| unusable(&cause))?;
        // The file has the padding and truncation that were set when it was saved.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|cause| unusable(&cause))?;
        let added = tokenizer.encode_fast("", true).map_err(|cause| unusable(&cause))?.len();
        if added >= max_tokens {
            return Err(invalid(format!("tokenizer.json adds {added} tokens to each text of at most {max_tokens}")));
        }
        let truncation = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|cause| unusable(&cause))?;
        Ok(Self { tokenizer, prompt })
    }

    /// Number of tokens in the vocabulary.
    pub fn vocabulary_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Encoding of token ids that the client sent instead of a text.
    fn encoding(&self, ids: &[u32]) -> Result<Encoding, Failure> {
        let token = |id: &u32| match self.tokenizer.id_to_token(*id) {
            Some(value) => Ok(Token::new(*id, value, (0, 0))),
            None => Err(Failure::new(
                FailureCode::InvalidRequest,
                format!("input has the token {id}: the model has {} tokens", self.vocabulary_size()),
            )),
        };
        let tokens = ids.iter().map(token).collect::<Result<Vec<Token>, Failure>>()?;
        Ok(Encoding::from_tokens(tokens, 0))
    }
}

impl Text for EncoderText {
    fn prompt(&self, _: &Chat<'_>) -> Result<Vec<u32>, Failure> {
        Err(Failure::new(
            FailureCode::InvalidRequest,
            "the model computes embeddings and continues no chat: send `input`, or name another model",
        ))
    }

    fn count_tokens(&self, part: &str) -> Result<usize, Failure> {
        Ok(self.tokenizer.encode_fast(part, false).map_err(|cause| invalid(cause.to_string()))?.len())
    }

    fn markup(&self) -> AnswerMarkup {
        AnswerMarkup::default()
    }

    fn encode_input(&self, input: &EmbeddingInput) -> Result<Vec<u32>, Failure> {
        let encoded = match input {
            EmbeddingInput::Text(text) => {
                let text = &text[..text.floor_char_boundary(LONGEST_INPUT)];
                self.tokenizer.encode_fast(format!("{}{text}", self.prompt), true)
            }
            EmbeddingInput::Tokens(ids) => {
                let ids = &ids[..ids.len().min(LONGEST_INPUT)];
                self.tokenizer.post_process(self.encoding(ids)?, None, true)
            }
        };
        let ids = encoded.map_err(|cause| invalid(cause.to_string()))?.get_ids().to_vec();
        if ids.is_empty() {
            return Err(Failure::new(FailureCode::InvalidRequest, "input has a text without tokens: leave it out"));
        }
        Ok(ids)
    }

    fn token_count(&self) -> u32 {
        u32::try_from(self.vocabulary_size()).unwrap_or(u32::MAX)
    }

    fn piece(&self, _: u32) -> &[u8] {
        &[]
    }

    fn eos_tokens(&self) -> Vec<u32> {
        Vec::new()
    }
}
