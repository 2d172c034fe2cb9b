//! A job: the request body of the OpenAI chat API, where `model` is optional (the subject names it).
//!
//! Shapes: <https://platform.openai.com/docs/api-reference/chat/create>. Fields that are not listed here are tolerated.

use std::fmt;

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor},
};

use crate::{Failure, FailureCode};

/// The largest body that a job may have. A NATS message holds 1 MiB; half of it leaves room for the rendered prompt.
pub const MAX_BODY_BYTES: usize = 512 * 1024;

/// A chat to be continued by the model.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct JobRequest {
    /// The model's name. Where the subject names it, this may be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The chat so far; at least one message.
    pub messages: Vec<Message>,
    /// The most tokens that the answer may have; default: what the context leaves, at most 1,024.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "max_completion_tokens")]
    #[schemars(range(min = 1))]
    pub max_tokens: Option<u32>,
    /// How random the choice is: 0 always takes the likeliest token; default 0.7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: Option<f32>,
    /// Draw from the fewest tokens whose probabilities reach this sum; default 0.95.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1.0))]
    pub top_p: Option<f32>,
    /// Draw from this many of the likeliest tokens; 0 means all; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Draw only from tokens at least this likely, relative to the likeliest; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_p: Option<f32>,
    /// Makes tokens of the last 64 less likely; 1 does nothing; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.1, max = 10.0))]
    pub repetition_penalty: Option<f32>,
    /// The seed of the random draws: the same request with the same seed gets the same answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Texts that end the answer; they are not part of it. At most 4, none empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    #[schemars(schema_with = "one_or_many_schema")]
    pub stop: Vec<String>,
    /// Whether the HTTP answer is a stream of events. On the bus every answer is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// How many answers; only 1 is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1))]
    pub n: Option<u32>,
}

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said: a text, or a list of parts of type `text`, which are joined.
    #[serde(deserialize_with = "text_or_parts")]
    #[schemars(schema_with = "text_or_parts_schema")]
    pub content: String,
}

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions to the model.
    #[serde(alias = "developer")]
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool.
    Tool,
}

/// How the next token is chosen; every field set. See [`JobRequest`] for the meaning of each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 for the likeliest token.
    pub temperature: f32,
    /// In (0, 1].
    pub top_p: f32,
    /// 0 for all.
    pub top_k: u32,
    /// In [0, 1].
    pub min_p: f32,
    /// 1 for none.
    pub repetition_penalty: f32,
    /// Of the random draws.
    pub seed: u64,
}

impl JobRequest {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// `body-too-large`, `invalid-json`, or `invalid-request` with the path of the field that is wrong.
    pub fn from_json(body: &[u8]) -> Result<Self, Failure> {
        if body.len() > MAX_BODY_BYTES {
            return Err(Failure::new(
                FailureCode::BodyTooLarge,
                format!("the body has {} bytes; a job may have {MAX_BODY_BYTES}: send a shorter chat", body.len()),
            ));
        }
        let mut json = serde_json::Deserializer::from_slice(body);
        let request: Self = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let (path, cause) = (error.path().to_string(), error.inner());
            if cause.is_data() {
                let place = if path == "." { String::new() } else { format!("{path}: ") };
                invalid(format!("{place}{cause}"))
            } else {
                Failure::new(FailureCode::InvalidJson, format!("the body is not JSON: {cause}"))
            }
        })?;
        json.end().map_err(|cause| {
            Failure::new(FailureCode::InvalidJson, format!("the body is not one JSON document: {cause}"))
        })?;
        request.check()?;
        Ok(request)
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// `invalid-request`, naming the field, the value found and what is allowed.
    pub fn check(&self) -> Result<(), Failure> {
        if self.messages.is_empty() {
            return Err(invalid(
                "messages is empty: send at least one, such as {\"role\":\"user\",\"content\":\"Hi\"}",
            ));
        }
        if self.max_tokens == Some(0) {
            return Err(invalid("max_tokens is 0: expected at least 1, or leave it out"));
        }
        within("temperature", self.temperature, 0.0, 2.0)?;
        within("top_p", self.top_p, f32::MIN_POSITIVE, 1.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        within("repetition_penalty", self.repetition_penalty, 0.1, 10.0)?;
        if self.n.is_some_and(|n| n != 1) {
            return Err(invalid("n must be 1: send the job again for another answer"));
        }
        if self.stop.len() > 4 {
            return Err(invalid(format!("stop has {} texts: at most 4 are possible", self.stop.len())));
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(invalid("stop holds an empty text: leave it out"));
        }
        Ok(())
    }

    /// How to choose tokens; `seed` is used where the request names none.
    pub fn sampling(&self, seed: u64) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(0.7),
            top_p: self.top_p.unwrap_or(0.95),
            top_k: self.top_k.unwrap_or(0),
            min_p: self.min_p.unwrap_or(0.0),
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            seed: self.seed.unwrap_or(seed),
        }
    }
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(FailureCode::InvalidRequest, message)
}

fn within(field: &str, value: Option<f32>, low: f32, high: f32) -> Result<(), Failure> {
    match value {
        Some(value) if !(low..=high).contains(&value) => {
            let low = if low == f32::MIN_POSITIVE { "more than 0".to_owned() } else { format!("{low}") };
            Err(invalid(format!("{field} is {value}: expected {low} to {high}")))
        }
        _ => Ok(()),
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct OneOrMany;

    impl<'de> Visitor<'de> for OneOrMany {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a list of texts")
        }
        fn visit_str<E: de::Error>(self, one: &str) -> Result<Self::Value, E> {
            Ok(vec![one.to_owned()])
        }
        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut many: A) -> Result<Self::Value, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = many.next_element()? {
                texts.push(text);
            }
            Ok(texts)
        }
    }

    deserializer.deserialize_any(OneOrMany)
}

fn text_or_parts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct TextOrParts;

    #[derive(Deserialize)]
    struct Part {
        r#type: String,
        #[serde(default)]
        text: String,
    }

    impl<'de> Visitor<'de> for TextOrParts {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a list of parts such as {\"type\":\"text\",\"text\":\"...\"}")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(text.to_owned())
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
            let mut text = String::new();
            while let Some(part) = parts.next_element::<Part>()? {
                if part.r#type != "text" {
                    return Err(de::Error::custom(format!(
                        "a part of type `{}` is not supported: only `text` is",
                        part.r#type
                    )));
                }
                text.push_str(&part.text);
            }
            Ok(text)
        }
    }

    deserializer.deserialize_any(TextOrParts)
}

fn one_or_many_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "description": "Texts that end the answer; they are not part of it. At most 4, none empty.",
        "oneOf": [
            { "type": "string", "minLength": 1 },
            { "type": "array", "items": { "type": "string", "minLength": 1 }, "maxItems": 4 },
        ],
    })
}

fn text_or_parts_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "description": "What is said: a text, or a list of parts of type `text`, which are joined.",
        "oneOf": [
            { "type": "string" },
            {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": { "type": { "const": "text" }, "text": { "type": "string" } },
                    "required": ["type", "text"],
                },
            },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_job_is_one_message() {
        let job = JobRequest::from_json(br#"{"messages":[{"role":"user","content":"Hi"}]}"#).expect("valid");
        assert_eq!(job.messages, [Message { role: Role::User, content: "Hi".into() }]);
        assert_eq!(job.sampling(7).seed, 7);
    }

    #[test]
    fn the_shapes_of_the_openai_api_are_understood() {
        let job = JobRequest::from_json(
            br#"{"model":"m","messages":[{"role":"developer","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],
                 "max_completion_tokens":5,"stop":"\n","stream":true,"seed":3,"user":"x","logit_bias":{}}"#,
        )
        .expect("valid");
        assert_eq!((job.messages[0].role, job.messages[0].content.as_str()), (Role::System, "ab"));
        assert_eq!((job.max_tokens, job.stop, job.seed), (Some(5), vec!["\n".to_owned()], Some(3)));
    }

    #[test]
    fn a_bad_body_is_refused_with_the_place_and_what_is_expected() {
        let chat = r#""messages":[{"role":"user","content":"Hi"}]"#;
        for (body, code, words) in [
            ("{".to_owned(), FailureCode::InvalidJson, "not JSON"),
            (format!("{{{chat}}} x"), FailureCode::InvalidJson, "not one JSON document"),
            ("[]".to_owned(), FailureCode::InvalidRequest, "invalid"),
            ("{}".to_owned(), FailureCode::InvalidRequest, "messages"),
            (r#"{"messages":[]}"#.to_owned(), FailureCode::InvalidRequest, "at least one"),
            (
                r#"{"messages":[{"role":"user","content":5}]}"#.to_owned(),
                FailureCode::InvalidRequest,
                "messages[0].content",
            ),
            (
                r#"{"messages":[{"role":"king","content":""}]}"#.to_owned(),
                FailureCode::InvalidRequest,
                "messages[0].role",
            ),
            (
                r#"{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#.to_owned(),
                FailureCode::InvalidRequest,
                "image_url",
            ),
            (format!("{{{chat},\"max_tokens\":0}}"), FailureCode::InvalidRequest, "max_tokens is 0"),
            (format!("{{{chat},\"max_tokens\":-1}}"), FailureCode::InvalidRequest, "max_tokens"),
            (format!("{{{chat},\"temperature\":3}}"), FailureCode::InvalidRequest, "0 to 2"),
            (format!("{{{chat},\"top_p\":0}}"), FailureCode::InvalidRequest, "more than 0 to 1"),
            (format!("{{{chat},\"stop\":[\"a\",\"\"]}}"), FailureCode::InvalidRequest, "empty text"),
            (format!("{{{chat},\"n\":2}}"), FailureCode::InvalidRequest, "n must be 1"),
            (" ".repeat(MAX_BODY_BYTES + 1), FailureCode::BodyTooLarge, "524288"),
        ] {
            let failure = JobRequest::from_json(body.as_bytes()).expect_err(&body);
            assert_eq!(failure.code, code, "{failure}");
            assert!(failure.message.contains(words), "{failure}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let job = JobRequest {
            model: Some("m".into()),
            messages: vec![Message { role: Role::User, content: "Hi".into() }],
            stop: vec!["a".into(), "b".into()],
            temperature: Some(0.0),
            ..JobRequest::default()
        };
        let json = serde_json::to_vec(&job).expect("serializes");
        assert_eq!(JobRequest::from_json(&json).expect("valid"), job);
    }
}
