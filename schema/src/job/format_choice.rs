//! The output format that a request chooses, and its check.

use serde_json::json;

use super::{
    output_format::{OutputFormat, ResponseFormat, StructuredOutputs},
    refusal::invalid,
    request::JobRequest,
};
use crate::Failure;

impl JobRequest {
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

    pub(super) fn check_output_format(&self) -> Result<(), Failure> {
        if self.ignores_eos() && self.output_format().is_some() {
            return Err(invalid("ignore_eos continues after the output format is complete: leave one of the two out"));
        }
        let Some(outputs) = &self.structured_outputs else { return Ok(()) };
        let StructuredOutputs { json, regex, choice, grammar } = outputs;
        let formats = [json.is_some(), regex.is_some(), !choice.is_empty(), grammar.is_some()];
        match formats.into_iter().filter(|is_there| *is_there).count() {
            0 => Err(invalid("structured_outputs is empty: expected one of json, regex, choice and grammar")),
            1 if !matches!(self.response_format, None | Some(ResponseFormat::Text)) => {
                Err(invalid("response_format and structured_outputs both set an output format: leave one out"))
            }
            1 => Ok(()),
            count => Err(invalid(format!(
                "structured_outputs sets {count} formats: expected one of json, regex, choice and grammar"
            ))),
        }
    }
}
