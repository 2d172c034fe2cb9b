//! Output formats of answers.
//!
//! Two fields select one: `response_format` as in the OpenAI API
//! (<https://platform.openai.com/docs/guides/structured-outputs>), and `structured_outputs` as in vLLM
//! (<https://docs.vllm.ai/en/latest/features/structured_outputs.html>) for formats that the OpenAI API lacks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::deserialize::null_is_default;

/// Output format, as in the OpenAI API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Any text.
    Text,
    /// A JSON object.
    JsonObject,
    /// A JSON document that conforms to a schema.
    JsonSchema {
        /// The schema.
        json_schema: NamedSchema,
    },
}

/// JSON Schema with a name. It is always enforced, whatever `strict` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NamedSchema {
    /// Name of the schema, for people. It has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The JSON Schema.
    pub schema: Value,
}

/// Output format, as in vLLM. Exactly one field must be set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct StructuredOutputs {
    /// JSON Schema that the answer conforms to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// Regular expression (syntax of the Rust crate `regex`, without look-around) that the whole answer matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// Texts, one of which is the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub choice: Vec<String>,
    /// Grammar in Lark syntax that the answer conforms to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grammar: Option<String>,
}

/// Output format of an answer, from either field of the request.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputFormat {
    /// A JSON document that conforms to a schema.
    Json(Value),
    /// A text that matches a regular expression.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A text that a grammar in Lark syntax produces.
    Grammar(String),
}

impl StructuredOutputs {
    pub(super) fn output_format(&self) -> Option<OutputFormat> {
        let Self { json, regex, choice, grammar } = self.clone();
        let choice = (!choice.is_empty()).then_some(OutputFormat::Choice(choice));
        json.map(OutputFormat::Json)
            .or(regex.map(OutputFormat::Regex))
            .or(choice)
            .or(grammar.map(OutputFormat::Grammar))
    }
}
