//! What form an answer is to have.
//!
//! Two fields ask for one: `response_format` as in the OpenAI API
//! (<https://platform.openai.com/docs/guides/structured-outputs>), and `structured_outputs` as in vLLM
//! (<https://docs.vllm.ai/en/latest/features/structured_outputs.html>) for what that API has no words for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{JobRequest, check::invalid, reading::null_is_default};
use crate::Failure;

/// The form of an answer, as in the OpenAI API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Any text.
    Text,
    /// A JSON object.
    JsonObject,
    /// A JSON document that fits a schema.
    JsonSchema {
        /// The schema.
        json_schema: NamedSchema,
    },
}

/// A JSON Schema with a name. It always holds, whether `strict` is true or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NamedSchema {
    /// For people; nothing depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The JSON Schema.
    pub schema: Value,
}

/// The form of an answer, as in vLLM: one of these.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct StructuredOutputs {
    /// A JSON Schema that the answer fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// A regular expression (of the Rust crate `regex`, without look-around) that the whole answer matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// Texts of which the answer is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub choice: Vec<String>,
    /// A grammar in the syntax of Lark that the answer fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grammar: Option<String>,
}

/// The form of an answer, wherever the request says it.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputFormat {
    /// A JSON document that fits a schema.
    Json(Value),
    /// What a regular expression matches.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// What a grammar in the syntax of Lark produces.
    Grammar(String),
}

impl JobRequest {
    /// The form that the answer is to have; `None` for any text.
    pub fn output_format(&self) -> Option<OutputFormat> {
        match &self.response_format {
            None | Some(ResponseFormat::Text) => {
                self.structured_outputs.as_ref().and_then(StructuredOutputs::output_format)
            }
            Some(ResponseFormat::JsonObject) => Some(OutputFormat::Json(json!({ "type": "object" }))),
            Some(ResponseFormat::JsonSchema { json_schema }) => Some(OutputFormat::Json(json_schema.schema.clone())),
        }
    }

    pub(super) fn check_output_format(&self) -> Result<(), Failure> {
        if self.ignores_eos() && self.output_format().is_some() {
            return Err(invalid(
                "ignore_eos goes on where the form of the answer is complete: leave one of the two out",
            ));
        }
        let Some(asked) = &self.structured_outputs else { return Ok(()) };
        let StructuredOutputs { json, regex, choice, grammar } = asked;
        let forms = [json.is_some(), regex.is_some(), !choice.is_empty(), grammar.is_some()];
        match forms.into_iter().filter(|is_there| *is_there).count() {
            0 => Err(invalid("structured_outputs is empty: expected one of json, regex, choice and grammar")),
            1 if !matches!(self.response_format, None | Some(ResponseFormat::Text)) => {
                Err(invalid("response_format and structured_outputs both say what form the answer has: leave one out"))
            }
            1 => Ok(()),
            count => Err(invalid(format!(
                "structured_outputs names {count} forms: expected one of json, regex, choice and grammar"
            ))),
        }
    }
}

impl StructuredOutputs {
    fn output_format(&self) -> Option<OutputFormat> {
        let Self { json, regex, choice, grammar } = self.clone();
        let choice = (!choice.is_empty()).then_some(OutputFormat::Choice(choice));
        json.map(OutputFormat::Json)
            .or(regex.map(OutputFormat::Regex))
            .or(choice)
            .or(grammar.map(OutputFormat::Grammar))
    }
}
