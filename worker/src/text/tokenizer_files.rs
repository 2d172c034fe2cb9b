//! Tokenizer and chat template of a model in the safetensors format: the JSON files beside its weights.
//!
//! The `tokenizers` crate reads `tokenizer.json`, except for the added tokens: the crate finds them in any text, but control
//! tokens must be found only where the template wrote them. They are therefore removed from the document and found by
//! [`super::token_matcher`], as for GGUF files. The post-processor, which adds tokens before and after texts, is removed as
//! well: templates write these tokens themselves, and `add_bos_token` covers templates that do not.
//! Formats: <https://huggingface.co/docs/tokenizers/api/tokenizer>,
//! <https://huggingface.co/docs/transformers/main_classes/tokenizer>.

use std::{collections::BTreeMap, path::Path};

use rbee_schema::{Failure, FailureCode};
use serde::Deserialize;
use serde_json::Value;

use super::{
    tokenizer::{LeadingSpace, Merging, Tokenizer},
    vocabulary::{TokenEncoding, TokenKind, Vocabulary, byte_token},
};
use crate::model_file::{
    error::{invalid, printable, unsupported},
    json_file::{read_bytes, read_json},
};

/// Ids must be below this: several times the size of the largest vocabularies.
const MAX_TOKENS: u32 = 1 << 22;

/// The text files of a folder as JSON; `Null` for files that do not exist.
pub(super) struct TokenizerFiles {
    /// `tokenizer.json`.
    tokenizer: Value,
    /// `tokenizer_config.json`.
    settings: Value,
    /// `generation_config.json`.
    generation: Value,
    /// `config.json`.
    model: Value,
    /// `chat_template.jinja`.
    template: Option<String>,
}

/// An entry of `added_tokens` in `tokenizer.json`.
#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

/// All tokens of a folder, by id.
struct Tokens {
    texts: Vec<String>,
    kinds: Vec<TokenKind>,
    encoding: TokenEncoding,
}

impl TokenizerFiles {
    /// Reads the files.
    pub(super) fn read(folder: &Path) -> Result<Self, Failure> {
        let tokenizer = read_json(folder, "tokenizer.json")?;
        if tokenizer.is_null() {
            let message = "the folder has no tokenizer.json: copy that file beside the weights";
            return Err(Failure::new(FailureCode::ModelMissing, message));
        }
        let template = read_bytes(folder, "chat_template.jinja")?.map(String::from_utf8).transpose();
        Ok(Self {
            tokenizer,
            settings: read_json(folder, "tokenizer_config.json")?,
            generation: read_json(folder, "generation_config.json")?,
            model: read_json(folder, "config.json")?,
            template: template.map_err(|_| invalid("chat_template.jinja is not UTF-8 text"))?,
        })
    }

    /// Chat template; `None` if the folder has none.
    pub(super) fn template(&self) -> Result<Option<String>, Failure> {
        if self.template.is_some() {
            return Ok(self.template.clone());
        }
        match &self.settings["chat_template"] {
            Value::Null => Ok(None),
            Value::String(template) => Ok(Some(template.clone())),
            // Some models have several templates by name.
            Value::Array(named) => {
                let default = named.iter().find(|entry| entry["name"] == "default");
                Ok(default.and_then(|entry| entry["template"].as_str()).map(str::to_owned))
            }
            Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
                Err(invalid("chat_template in tokenizer_config.json is not a text"))
            }
        }
    }

    /// Builds the tokenizer.
    pub(super) fn tokenizer(&self) -> Result<Tokenizer, Failure> {
        let kind = self.tokenizer["model"]["type"].as_str().unwrap_or("BPE");
        if kind != "BPE" {
            let kind = printable(kind);
            return Err(unsupported(format!("the tokenizer is of the kind {kind:?}: supported is BPE")));
        }
        let added = Vec::<AddedToken>::deserialize(&self.tokenizer["added_tokens"])
            .map_err(|cause| invalid(format!("added_tokens in tokenizer.json cannot be read: {cause}")))?;
        let (library, leading_space) = self.library()?;
        let Tokens { texts, kinds, encoding } = self.tokens(&library, &added)?;
        let id_of = |text: &str| texts.iter().position(|known| known == text && !text.is_empty()).map(|id| id as u32);
        let named = |key: &str| text_of(&self.settings[key]).and_then(id_of);
        let listed = |key: &str| [ids(&self.generation[key]), ids(&self.model[key])].concat();
        let bos = named("bos_token").or(listed("bos_token_id").first().copied());
        let stop_tokens = listed("eos_token_id");
        let eos = named("eos_token").or(stop_tokens.first().copied());
        let tokens: Vec<&str> = texts.iter().map(String::as_str).collect();
        let add_bos = self.settings["add_bos_token"].as_bool();
        let add_bos = add_bos.unwrap_or(begins_with_a_token(&self.tokenizer["post_processor"]));
        let vocabulary = Vocabulary::new(tokens, kinds, encoding, bos, eos).with_stop_tokens(stop_tokens);
        Ok(Tokenizer::new(&vocabulary, Merging::Library(Box::new(library)), add_bos, leading_space))
    }

    /// The tokenizer of the crate, and where the document puts a space before texts.
    fn library(&self) -> Result<(tokenizers::Tokenizer, LeadingSpace), Failure> {
        let mut document = self.tokenizer.clone();
        document["added_tokens"] = Value::Array(Vec::new());
        for key in ["post_processor", "truncation", "padding"] {
            document[key] = Value::Null;
        }
        // The crate would treat every text between control tokens as the first one.
        let first = find(&mut document["pre_tokenizer"], &|part| part["prepend_scheme"] == "first");
        let leading_space = match first {
            Some(part) => {
                part["prepend_scheme"] = "never".into();
                LeadingSpace::First
            }
            None => LeadingSpace::Never,
        };
        let library = serde_json::from_value(document)
            .map_err(|cause| invalid(format!("tokenizer.json cannot be used: {cause}")))?;
        Ok((library, leading_space))
    }

    fn tokens(&self, library: &tokenizers::Tokenizer, added: &[AddedToken]) -> Result<Tokens, Failure> {
        let is_byte_level = find(&mut self.tokenizer["decoder"].clone(), &|part| part["type"] == "ByteLevel").is_some();
        let encoding = if is_byte_level { TokenEncoding::ByteAlphabet } else { TokenEncoding::SpaceMarks };
        let mut tokens: BTreeMap<u32, (String, TokenKind)> = BTreeMap::new();
        for (text, id) in library.get_vocab(false) {
            let byte = byte_token(&text).filter(|_| encoding == TokenEncoding::SpaceMarks);
            tokens.insert(id, (text, byte.map_or(TokenKind::Text, TokenKind::Byte)));
        }
        for token in added {
            let kind = if token.special { TokenKind::Control } else { TokenKind::Added };
            tokens.insert(token.id, (token.content.clone(), kind));
        }
        let count = tokens.last_key_value().map_or(0, |(id, _)| id.saturating_add(1));
        if count > MAX_TOKENS {
            let last = count - 1;
            return Err(invalid(format!("tokenizer.json has the token {last}: expected less than {MAX_TOKENS}")));
        }
        let unused = || (String::new(), TokenKind::Unused);
        let (texts, kinds) = (0..count).map(|id| tokens.remove(&id).unwrap_or_else(unused)).unzip();
        Ok(Tokens { texts, kinds, encoding })
    }
}

/// Depth-first search for the first part of a document that satisfies a condition; the document itself is a part.
fn find<'a>(value: &'a mut Value, condition: &impl Fn(&Value) -> bool) -> Option<&'a mut Value> {
    if condition(value) {
        return Some(value);
    }
    match value {
        Value::Object(entries) => entries.values_mut().find_map(|value| find(value, condition)),
        Value::Array(values) => values.iter_mut().find_map(|value| find(value, condition)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// True if a post-processor puts a token before a text.
fn begins_with_a_token(post_processor: &Value) -> bool {
    let mut document = post_processor.clone();
    find(&mut document, &|part| part["single"][0].get("SpecialToken").is_some()).is_some()
}

/// Text of a token, which is a string or an object with `content`.
fn text_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// Ids in a value, which is one id or a list of them.
fn ids(value: &Value) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(values) => values.iter().filter_map(id).collect(),
        value => id(value).into_iter().collect(),
    }
}
