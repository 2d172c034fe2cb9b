//! The request of a chat job.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    deserialize::{by_token, null_is_default, one_or_many, one_or_many_schema},
    message::Message,
    output_format::{OutputFormat, ResponseFormat, StructuredOutputs},
    sampling::Sampling,
    tool::{Tool, ToolChoice, ToolMode},
};

/// Request to continue a chat.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct JobRequest {
    /// Name of the model. Optional if the subject names the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Messages of the chat, at least one.
    pub messages: Vec<Message>,
    /// Maximum number of tokens of the answer. Default: what the context leaves, at most 1,024.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "max_completion_tokens")]
    #[schemars(range(min = 1))]
    pub max_tokens: Option<u32>,
    /// Sampling temperature: 0 always chooses the most likely token; default 0.7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: Option<f32>,
    /// Nucleus sampling: draw from the fewest tokens whose probabilities reach this sum; default 0.95.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1.0))]
    pub top_p: Option<f32>,
    /// Draw from this number of most likely tokens; default 0, which means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Draw only from tokens whose probability is at least this share of the most likely token's; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_p: Option<f32>,
    /// Penalty on tokens that occur among the last 64; default 1, which means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.1, max = 10.0))]
    pub repetition_penalty: Option<f32>,
    /// Penalty subtracted from the logit of every token that occurs in the answer; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -2.0, max = 2.0))]
    pub presence_penalty: Option<f32>,
    /// Penalty subtracted from the logit of a token for each of its occurrences in the answer; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -2.0, max = 2.0))]
    pub frequency_penalty: Option<f32>,
    /// Bias added to the logits of tokens, by token id: -100 forbids a token, 100 forbids all others. At most 1,024 tokens.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "by_token")]
    pub logit_bias: BTreeMap<u32, f32>,
    /// Return the log probability of each token; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<bool>,
    /// Number of most likely tokens to return at each position; needs `logprobs`; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 20))]
    pub top_logprobs: Option<u32>,
    /// Seed of the random draws. The same request with the same seed gets the same answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Texts that end the answer and are not part of it. At most 4, none empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    #[schemars(schema_with = "one_or_many_schema")]
    pub stop: Vec<String>,
    /// Token ids that end the answer and are not part of it, in addition to the model's own. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub stop_token_ids: Vec<u32>,
    /// Minimum number of tokens of the answer: until then no token ends it; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_tokens: Option<u32>,
    /// Continue the answer after the model ended it, for benchmarks; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_eos: Option<bool>,
    /// Output format of the answer: `text`, `json_object` or `json_schema`; default `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_format: Option<ResponseFormat>,
    /// Output format as in vLLM: a JSON Schema, a regular expression, a choice of texts, or a grammar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured_outputs: Option<StructuredOutputs>,
    /// Tools that the model may call; at most 128. A model whose chat template does not support tools refuses the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub tools: Vec<Tool>,
    /// Use of the tools: `none`, `auto`, `required`, or one tool that must be called; default `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
    /// Allow several tool calls in one answer; default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// Additional variables of the model's chat template, such as `enable_thinking`. Unknown variables have no effect.
    #[serde(default, skip_serializing_if = "Map::is_empty", deserialize_with = "null_is_default")]
    pub chat_template_kwargs: Map<String, Value>,
    /// Stream the answer of the HTTP gateway as server-sent events; default false. On the bus every answer is streamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// Number of answers. A job has exactly one. The HTTP gateway accepts up to 8 and submits a job for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1))]
    pub n: Option<u32>,
}

impl JobRequest {
    /// True if the answer continues after an end-of-sequence token.
    pub fn ignores_eos(&self) -> bool {
        self.ignore_eos == Some(true)
    }

    /// Sampling parameters of the request with their defaults. `seed` applies if the request names none.
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

    /// Tools that the model sees.
    pub fn available_tools(&self) -> &[Tool] {
        match self.tool_choice {
            Some(ToolChoice::Mode(ToolMode::None)) => &[],
            _ => &self.tools,
        }
    }

    /// Tools of which the model must call one. Empty if it need not call any.
    pub fn required_tools(&self) -> Vec<&Tool> {
        match &self.tool_choice {
            Some(ToolChoice::Mode(ToolMode::Required)) => self.tools.iter().collect(),
            Some(ToolChoice::Named { function, .. }) => self.tool(&function.name).into_iter().collect(),
            None | Some(ToolChoice::Mode(ToolMode::None | ToolMode::Auto)) => Vec::new(),
        }
    }

    /// True if the answer has at most one tool call: the request disables parallel calls, or names the tool.
    pub fn allows_one_call(&self) -> bool {
        self.parallel_tool_calls == Some(false) || matches!(self.tool_choice, Some(ToolChoice::Named { .. }))
    }

    pub(super) fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.function.name == name)
    }

    /// Output format of the answer. `None` for any text.
    pub fn output_format(&self) -> Option<OutputFormat> {
        match &self.response_format {
            None | Some(ResponseFormat::Text) => {
                self.structured_outputs.as_ref().and_then(StructuredOutputs::output_format)
            }
            Some(ResponseFormat::JsonObject) => Some(OutputFormat::Json(json!({ "type": "object" }))),
            Some(ResponseFormat::JsonSchema { json_schema }) => Some(OutputFormat::Json(json_schema.schema.clone())),
        }
    }
}
