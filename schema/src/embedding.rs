//! Embeddings jobs: the request body of the OpenAI embeddings API. `model` is optional, because the subject names the model.
//!
//! Format: <https://platform.openai.com/docs/api-reference/embeddings/create>. Unknown fields are tolerated.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, IgnoredAny, SeqAccess, Visitor},
};

use crate::{Failure, FailureCode, MAX_BODY_BYTES, body::read};

/// Maximum number of inputs of one request, as in the OpenAI API.
const MAX_INPUTS: usize = 2048;

/// Number of inputs beyond which a list is not read further. A body of 512 KiB has fewer, and gets an error that names their
/// number; a larger one would take a multiple of its size in memory.
const READ_INPUTS: usize = MAX_BODY_BYTES / 2;

/// Request for the embeddings of texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EmbeddingsRequest {
    /// Name of the model. Optional if the subject names the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Input texts: one, or a list of at most 2,048. Each is a text or a list of token ids.
    #[serde(deserialize_with = "inputs")]
    #[schemars(schema_with = "inputs_schema")]
    pub input: Vec<EmbeddingInput>,
    /// Number of dimensions of each vector, for models whose vectors may be shortened. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub dimensions: Option<u32>,
    /// Encoding of the vectors; default `float`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding_format: Option<EncodingFormat>,
}

/// One input text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmbeddingInput {
    /// Plain text.
    Text(String),
    /// Token ids of the model, without the special tokens that surround every text.
    Tokens(Vec<u32>),
}

/// Encoding of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EncodingFormat {
    /// Lists of numbers.
    #[default]
    Float,
    /// 32-bit little-endian floats in base64.
    Base64,
}

impl EmbeddingsRequest {
    /// Parses and checks a body.
    ///
    /// # Errors
    /// `invalid-json`, or `invalid-request` with the path of the invalid field.
    pub fn from_json(body: &[u8]) -> Result<Self, Failure> {
        let hint = |failure| match Self::is_chat(body) {
            true => invalid("the body is a chat with `messages`: the model computes embeddings, which have `input`"),
            false => failure,
        };
        let request: Self = read(body).map_err(hint)?;
        request.check()?;
        Ok(request)
    }

    /// True if a body is meant as an embeddings request: it has `input` and no `messages`.
    pub fn matches(body: &[u8]) -> bool {
        Fields::parse(body).is_some_and(|fields| fields.input.is_some() && fields.messages.is_none())
    }

    fn is_chat(body: &[u8]) -> bool {
        Fields::parse(body).is_some_and(|fields| fields.input.is_none() && fields.messages.is_some())
    }

    fn check(&self) -> Result<(), Failure> {
        match self.input.len() {
            0 => return Err(invalid("input is empty: send at least one text")),
            1..=MAX_INPUTS => {}
            count => return Err(invalid(format!("input has {count} texts: at most {MAX_INPUTS} are allowed"))),
        }
        if self.input.iter().any(|input| matches!(input, EmbeddingInput::Tokens(ids) if ids.is_empty())) {
            return Err(invalid("input contains an empty list of tokens: leave it out"));
        }
        if self.dimensions == Some(0) {
            return Err(invalid("dimensions is 0: expected at least 1, or leave it out"));
        }
        Ok(())
    }
}

/// Fields that distinguish an embeddings request from a chat.
#[derive(Deserialize)]
struct Fields {
    input: Option<IgnoredAny>,
    messages: Option<IgnoredAny>,
}

impl Fields {
    fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(FailureCode::InvalidRequest, message)
}

impl Serialize for EmbeddingInput {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Tokens(ids) => ids.serialize(serializer),
        }
    }
}

/// Parses a text, a list of texts, a list of tokens, or a list of lists of tokens.
fn inputs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<EmbeddingInput>, D::Error> {
    struct Inputs;

    impl<'de> Visitor<'de> for Inputs {
        type Value = Vec<EmbeddingInput>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text, a list of texts, a list of tokens, or a list of lists of tokens")
        }
        fn visit_str<E: de::Error>(self, one: &str) -> Result<Self::Value, E> {
            Ok(vec![EmbeddingInput::Text(one.to_owned())])
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let (mut inputs, mut tokens) = (Vec::new(), Vec::new());
            while let Some(item) = items.next_element()? {
                match item {
                    Item::Input(_) if inputs.len() >= READ_INPUTS => {
                        return Err(de::Error::custom(format!("more than {MAX_INPUTS} texts: send fewer at a time")));
                    }
                    Item::Input(input) => inputs.push(input),
                    Item::Token(token) => tokens.push(token),
                }
            }
            match (inputs.is_empty(), tokens.is_empty()) {
                (false, false) => Err(de::Error::custom("mixes tokens and texts: expected one kind")),
                (true, false) => Ok(vec![EmbeddingInput::Tokens(tokens)]),
                (_, true) => Ok(inputs),
            }
        }
    }

    deserializer.deserialize_any(Inputs)
}

/// One element of the list.
enum Item {
    Input(EmbeddingInput),
    Token(u32),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;

        impl<'de> Visitor<'de> for Items {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a token or a list of tokens")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Item, E> {
                Ok(Item::Input(EmbeddingInput::Text(text.to_owned())))
            }
            fn visit_u64<E: de::Error>(self, token: u64) -> Result<Item, E> {
                let token = u32::try_from(token).map_err(|_| E::custom(format!("{token} is not a token id")))?;
                Ok(Item::Token(token))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut tokens: A) -> Result<Item, A::Error> {
                let mut ids = Vec::new();
                while let Some(token) = tokens.next_element()? {
                    ids.push(token);
                }
                Ok(Item::Input(EmbeddingInput::Tokens(ids)))
            }
        }

        deserializer.deserialize_any(Items)
    }
}

fn inputs_schema(_: &mut SchemaGenerator) -> Schema {
    let tokens = serde_json::json!({ "type": "array", "items": { "type": "integer", "minimum": 0 } });
    json_schema!({
        "description": "Input texts: one, or a list of at most 2,048. Each is a text or a list of token ids.",
        "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" } },
            tokens,
            { "type": "array", "items": tokens },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_inputs(input: &str) -> Result<Vec<EmbeddingInput>, Failure> {
        let body = format!(r#"{{"model":"m","input":{input},"user":"x"}}"#);
        EmbeddingsRequest::from_json(body.as_bytes()).map(|request| request.input)
    }

    #[test]
    fn input_is_a_text_or_tokens_or_a_list_of_either() {
        let text = |text: &str| EmbeddingInput::Text(text.to_owned());
        for (input, expected) in [
            (r#""a""#, vec![text("a")]),
            (r#"["a",""]"#, vec![text("a"), text("")]),
            ("[1,2]", vec![EmbeddingInput::Tokens(vec![1, 2])]),
            ("[[1],[2,3]]", vec![EmbeddingInput::Tokens(vec![1]), EmbeddingInput::Tokens(vec![2, 3])]),
        ] {
            assert_eq!(read_inputs(input), Ok(expected), "{input}");
        }
    }

    #[test]
    fn an_invalid_request_is_refused_by_field() {
        let many = format!("[{}]", vec!["\"a\""; MAX_INPUTS + 1].join(","));
        for (input, words) in [
            ("[]", "input is empty"),
            ("[[]]", "an empty list of tokens"),
            (r#"["a",1]"#, "input: mixes tokens and texts"),
            ("[-1]", "input[0]"),
            ("[4294967296]", "is not a token id"),
            ("{}", "expected a text, a list of texts"),
            (many.as_str(), "2049 texts"),
        ] {
            let failure = read_inputs(input).expect_err(input);
            assert_eq!(failure.code, FailureCode::InvalidRequest);
            assert!(failure.message.contains(words), "{input}: {failure}");
        }
        for (body, words) in [
            (r#"{"input":"a","dimensions":0}"#, "dimensions is 0"),
            (r#"{"input":"a","encoding_format":"hex"}"#, "encoding_format"),
            (r#"{"model":"m"}"#, "missing field `input`"),
            (r#"{"messages":[]}"#, "the body is a chat with `messages`"),
        ] {
            let failure = EmbeddingsRequest::from_json(body.as_bytes()).expect_err(body);
            assert!(failure.message.contains(words), "{body}: {failure}");
        }
    }

    #[test]
    fn a_request_is_parsed_as_it_was_written() {
        let request = EmbeddingsRequest {
            model: None,
            input: vec![EmbeddingInput::Text("a".into()), EmbeddingInput::Tokens(vec![1])],
            dimensions: Some(3),
            encoding_format: Some(EncodingFormat::Base64),
        };
        let json = serde_json::to_vec(&request).expect("serializes");
        assert_eq!(EmbeddingsRequest::from_json(&json), Ok(request));
        assert!(EmbeddingsRequest::matches(&json));
        assert!(!EmbeddingsRequest::matches(br#"{"messages":[],"input":"a"}"#));
        assert!(!EmbeddingsRequest::matches(b"{"));
    }
}
