//! A job: the request body of the OpenAI chat API, where `model` is optional (the subject names it).
//!
//! Shapes: <https://platform.openai.com/docs/api-reference/chat/create>. Fields that are not listed here are tolerated.

mod check;
mod message;
mod output_format;
mod reading;
mod sampling;
mod tool;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use self::{
    check::invalid,
    reading::{by_token, null_is_default, one_or_many, one_or_many_schema},
};
pub use self::{
    message::{Message, Role},
    output_format::{NamedSchema, OutputFormat, ResponseFormat, StructuredOutputs},
    sampling::Sampling,
    tool::{CalledFunction, Function, FunctionName, Tool, ToolCall, ToolChoice, ToolKind, ToolMode},
};
use crate::{EmbeddingsRequest, Failure, FailureCode};

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
    /// Taken off the logit of every token that the answer has already; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -2.0, max = 2.0))]
    pub presence_penalty: Option<f32>,
    /// Taken off the logit of a token once for each time that the answer has it already; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -2.0, max = 2.0))]
    pub frequency_penalty: Option<f32>,
    /// Added to the logits of single tokens, by their ids: -100 forbids a token, 100 all others. At most 1,024.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "by_token")]
    pub logit_bias: BTreeMap<u32, f32>,
    /// Whether each token comes with the logarithm of its probability; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<bool>,
    /// How many of the likeliest tokens come with theirs; needs `logprobs`; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 20))]
    pub top_logprobs: Option<u32>,
    /// The seed of the random draws: the same request with the same seed gets the same answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Texts that end the answer; they are not part of it. At most 4, none empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    #[schemars(schema_with = "one_or_many_schema")]
    pub stop: Vec<String>,
    /// Tokens that end the answer, besides the model's own; they are not part of it. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub stop_token_ids: Vec<u32>,
    /// The fewest tokens that the answer may have: before, no token ends it; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_tokens: Option<u32>,
    /// Whether the answer goes on after the model has ended it, for measurements; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_eos: Option<bool>,
    /// What form the answer has: `text`, `json_object`, or `json_schema`; default `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_format: Option<ResponseFormat>,
    /// The same in other words: a JSON Schema, a regular expression, a choice of texts, or a grammar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured_outputs: Option<StructuredOutputs>,
    /// What the model may call instead of answering; at most 128. A model whose template has no place for tools refuses.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub tools: Vec<Tool>,
    /// Whether it is to call one: `none`, `auto`, `required`, or which; default `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
    /// Whether one answer may call several times; default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// What the model's chat template is told besides, such as `enable_thinking`. What a template does not know does nothing.
    #[serde(default, skip_serializing_if = "Map::is_empty", deserialize_with = "null_is_default")]
    pub chat_template_kwargs: Map<String, Value>,
    /// Whether the HTTP answer is a stream of events. On the bus every answer is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// How many answers. A job has one; the HTTP gateway makes as many jobs, at most 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1))]
    pub n: Option<u32>,
}

impl JobRequest {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// `body-too-large`, `invalid-json`, or `invalid-request` with the path of the field that is wrong.
    pub fn from_json(body: &[u8]) -> Result<Self, Failure> {
        let request: Self = Self::read_as(body)?;
        request.check()?;
        Ok(request)
    }

    /// Reads the body of a chat as a type that holds more than the job, unchecked.
    ///
    /// # Errors
    /// `body-too-large`, `invalid-json`, or `invalid-request` with the path of the field that is wrong.
    pub fn read_as<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
        read(body).map_err(|failure| match EmbeddingsRequest::matches(body) {
            true => {
                invalid("the body asks for embeddings with `input`: the model continues chats, which have `messages`")
            }
            false => failure,
        })
    }

    /// Whether a token that ends answers is taken as one that does not.
    pub fn ignores_eos(&self) -> bool {
        self.ignore_eos == Some(true)
    }

    /// How to choose tokens; `seed` is used where the request names none.
    pub fn sampling(&self, seed: u64) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(0.7),
            top_p: self.top_p.unwrap_or(0.95),
            top_k: self.top_k.unwrap_or(0),
            min_p: self.min_p.unwrap_or(0.0),
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            presence_penalty: self.presence_penalty.unwrap_or(0.0),
            frequency_penalty: self.frequency_penalty.unwrap_or(0.0),
            logit_bias: self.logit_bias.clone(),
            logprobs: (self.logprobs == Some(true)).then(|| self.top_logprobs.unwrap_or(0)),
            min_tokens: self.min_tokens.unwrap_or(0),
            eos_tokens: Vec::new(),
            seed: self.seed.unwrap_or(seed),
        }
    }
}

/// Reads a body, unchecked.
///
/// # Errors
/// `body-too-large`, `invalid-json`, or `invalid-request` with the path of the field that is wrong.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    if body.len() > MAX_BODY_BYTES {
        return Err(Failure::new(
            FailureCode::BodyTooLarge,
            format!("the body has {} bytes; a job may have {MAX_BODY_BYTES}: send a shorter chat", body.len()),
        ));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let request = serde_path_to_error::deserialize(&mut json).map_err(|error| {
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
    Ok(request)
}

#[cfg(test)]
mod tests;
