//! The text side of a model in the safetensors format: the JSON files beside its weights.
//!
//! `tokenizer.json` is read by the `tokenizers` crate, except for the tokens that were added to it: the crate finds them
//! in any text, and control tokens must be found only where the template wrote them. So they are taken out of the file
//! and found by us, as for GGUF files. What the file would put before and behind texts is taken out, too: templates write
//! that themselves, and `add_bos_token` says it for those that do not.
//! Formats: <https://huggingface.co/docs/tokenizers/api/tokenizer>,
//! <https://huggingface.co/docs/transformers/main_classes/tokenizer>.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use rbee_schema::{Failure, FailureCode};
use serde::Deserialize;
use serde_json::Value;

use super::{
    invalid, shown,
    tokenizer::{LeadingSpace, Merging, Tokenizer},
    unsupported,
    vocabulary::{self, Kind, Vocabulary, Writing},
};

/// Bytes of a file that are read. The largest tokenizers have 40 MB.
const MOST_BYTES: u64 = 256 << 20;
/// Ids below this can be tokens: several times what the largest vocabularies have.
const MOST_TOKENS: u32 = 1 << 22;

/// The files of a folder, as JSON; `Null` for those that are not there.
pub(super) struct Folder {
    tokenizer: Value,
    settings: Value,
    generation: Value,
    model: Value,
    template: Option<String>,
}

/// An entry of `added_tokens`.
#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

impl Folder {
    /// Reads the files.
    pub(super) fn read(folder: &Path) -> Result<Self, Failure> {
        let tokenizer = json(folder, "tokenizer.json")?;
        if tokenizer.is_null() {
            let message = "it has no tokenizer.json: copy that file beside the weights";
            return Err(Failure::new(FailureCode::ModelMissing, message));
        }
        Ok(Self {
            tokenizer,
            settings: json(folder, "tokenizer_config.json")?,
            generation: json(folder, "generation_config.json")?,
            model: json(folder, "config.json")?,
            template: bytes(folder, "chat_template.jinja")?
                .map(|bytes| String::from_utf8(bytes).map_err(|_| invalid("its chat_template.jinja is no text")))
                .transpose()?,
        })
    }

    /// The chat template, where there is one.
    pub(super) fn template(&self) -> Result<Option<String>, Failure> {
        if self.template.is_some() {
            return Ok(self.template.clone());
        }
        match &self.settings["chat_template"] {
            Value::Null => Ok(None),
            Value::String(template) => Ok(Some(template.clone())),
            // Some models have several, by name.
            Value::Array(named) => {
                let default = named.iter().find(|one| one["name"] == "default");
                Ok(default.and_then(|one| one["template"].as_str()).map(str::to_owned))
            }
            _ => Err(invalid("chat_template in its tokenizer_config.json is no text")),
        }
    }

    /// The tokenizer.
    pub(super) fn tokenizer(&self) -> Result<Tokenizer, Failure> {
        let kind = self.tokenizer["model"]["type"].as_str().unwrap_or("BPE");
        if kind != "BPE" {
            return Err(unsupported(format!("its tokenizer is of the kind {:?}: supported is BPE", shown(kind))));
        }
        let added = Vec::<AddedToken>::deserialize(&self.tokenizer["added_tokens"])
            .map_err(|cause| invalid(format!("added_tokens in its tokenizer.json: {cause}")))?;
        let (merging, leading_space) = self.merging()?;
        let (texts, kinds, writing) = self.tokens(&merging, &added)?;
        let id_of = |text: &str| texts.iter().position(|known| known == text && !text.is_empty()).map(|id| id as u32);
        let named = |key: &str| text_of(&self.settings[key]).and_then(id_of);
        let listed = |key: &str| [ids(&self.generation[key]), ids(&self.model[key])].concat();
        let begin = named("bos_token").or(listed("bos_token_id").first().copied());
        let ends = listed("eos_token_id");
        let end = named("eos_token").or(ends.first().copied());
        let tokens: Vec<&str> = texts.iter().map(String::as_str).collect();
        let begins = self.settings["add_bos_token"].as_bool();
        let begins = begins.unwrap_or(begins_with_a_token(&self.tokenizer["post_processor"]));
        let vocabulary = Vocabulary::new(tokens, kinds, writing, begin, end).ending_with(ends);
        Ok(Tokenizer::new(&vocabulary, Merging::Library(Box::new(merging)), begins, leading_space))
    }

    /// The crate's part, and where it would put a space before texts.
    fn merging(&self) -> Result<(tokenizers::Tokenizer, LeadingSpace), Failure> {
        let mut document = self.tokenizer.clone();
        for key in ["added_tokens", "post_processor", "truncation", "padding"] {
            document[key] = if key == "added_tokens" { Value::Array(Vec::new()) } else { Value::Null };
        }
        // The crate would take each text between control tokens for the first one.
        let first = find(&mut document["pre_tokenizer"], &|part| part["prepend_scheme"] == "first");
        let leading_space = match first {
            Some(part) => {
                part["prepend_scheme"] = "never".into();
                LeadingSpace::First
            }
            None => LeadingSpace::Never,
        };
        let merging = serde_json::from_value(document)
            .map_err(|cause| invalid(format!("its tokenizer.json cannot be used: {cause}")))?;
        Ok((merging, leading_space))
    }

    /// Texts and kinds by id, and how the texts are written.
    fn tokens(
        &self,
        merging: &tokenizers::Tokenizer,
        added: &[AddedToken],
    ) -> Result<(Vec<String>, Vec<Kind>, Writing), Failure> {
        let in_bytes = find(&mut self.tokenizer["decoder"].clone(), &|part| part["type"] == "ByteLevel").is_some();
        let writing = if in_bytes { Writing::Alphabet } else { Writing::Text };
        let mut tokens: BTreeMap<u32, (String, Kind)> = BTreeMap::new();
        for (text, id) in merging.get_vocab(false) {
            let byte = vocabulary::byte(&text).filter(|_| writing == Writing::Text);
            tokens.insert(id, (text, byte.map_or(Kind::Text, Kind::Byte)));
        }
        for token in added {
            let kind = if token.special { Kind::Control } else { Kind::Added };
            tokens.insert(token.id, (token.content.clone(), kind));
        }
        let count = tokens.last_key_value().map_or(0, |(id, _)| id.saturating_add(1));
        if count > MOST_TOKENS {
            return Err(invalid(format!(
                "its tokenizer.json has the token {}: expected less than {MOST_TOKENS}",
                count - 1
            )));
        }
        let unused = || (String::new(), Kind::Unused);
        let (texts, kinds) = (0..count).map(|id| tokens.remove(&id).unwrap_or_else(unused)).unzip();
        Ok((texts, kinds, writing))
    }
}

/// The first part of a document, itself or within it, for which this holds.
fn find<'a>(value: &'a mut Value, holds: &impl Fn(&Value) -> bool) -> Option<&'a mut Value> {
    if holds(value) {
        return Some(value);
    }
    match value {
        Value::Object(entries) => entries.values_mut().find_map(|value| find(value, holds)),
        Value::Array(values) => values.iter_mut().find_map(|value| find(value, holds)),
        _ => None,
    }
}

/// Whether a post-processor puts a token before a text.
fn begins_with_a_token(post_processor: &Value) -> bool {
    let mut document = post_processor.clone();
    find(&mut document, &|part| part["single"][0].get("SpecialToken").is_some()).is_some()
}

/// A token's text, which stands by itself or in an object.
fn text_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// One id, or a list of them.
fn ids(value: &Value) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(values) => values.iter().filter_map(id).collect(),
        value => id(value).into_iter().collect(),
    }
}

/// A file as JSON; `Null` where there is none.
pub(crate) fn json(folder: &Path, name: &str) -> Result<Value, Failure> {
    let Some(bytes) = bytes(folder, name)? else { return Ok(Value::Null) };
    serde_json::from_slice(&bytes).map_err(|cause| invalid(format!("its {name} is no JSON: {cause}")))
}

/// What a file holds; nothing where there is none.
fn bytes(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    let path = folder.join(name);
    let unreadable =
        |cause: io::Error| Failure::new(FailureCode::ModelMissing, format!("its {name} cannot be read: {cause}"));
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
        Ok(about) if about.len() > MOST_BYTES => {
            return Err(invalid(format!("its {name} has {} bytes: expected at most {MOST_BYTES}", about.len())));
        }
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    File::open(&path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes)).map_err(unreadable)?;
    Ok(Some(bytes))
}
