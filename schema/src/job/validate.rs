//! Checks of a request that its types cannot express.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use super::{
    message::{Message, Role},
    output_format::{ResponseFormat, StructuredOutputs},
    request::JobRequest,
    tool::{Function, Tool, ToolChoice, ToolMode},
};
use crate::{
    Failure, MAX_BODY_BYTES,
    body::{check_count, invalid},
};

/// Maximum number of biased tokens of a request: each costs time for every generated token.
const MAX_BIASES: usize = 1024;

/// Maximum number of stop tokens of a request: each generated token is compared with all of them.
const MAX_STOP_TOKENS: usize = 64;

/// Maximum number of tools of a request, as in the OpenAI API.
const MAX_TOOLS: usize = 128;

/// Longest name of a tool, as in the OpenAI API.
const LONGEST_NAME: usize = 64;

impl JobRequest {
    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// `invalid-request`, with the field, the value found and the values allowed.
    pub fn check(&self) -> Result<(), Failure> {
        if self.messages.is_empty() {
            return Err(invalid(
                "messages is empty: send at least one, such as {\"role\":\"user\",\"content\":\"Hi\"}",
            ));
        }
        self.check_sampling()?;
        self.check_stop()?;
        self.check_output_format()?;
        self.check_tools()?;
        if self.n.is_some_and(|n| n != 1) {
            return Err(invalid(
                "n must be 1, because a job has one answer: submit the job again with another seed for another answer (the HTTP gateway does this)",
            ));
        }
        Ok(())
    }

    /// Refuses a request that is large for another reason than its messages: tools, output formats and stop texts cost more
    /// than their size to prepare.
    ///
    /// # Errors
    /// `invalid-request`, with the size found and the limit.
    pub(super) fn check_size_without_messages(&self) -> Result<(), Failure> {
        let Self { tools, response_format, structured_outputs, chat_template_kwargs, stop, .. } = self;
        let mut size = Size(0);
        let parts = (tools, response_format, structured_outputs, chat_template_kwargs, stop);
        serde_json::to_writer(&mut size, &parts).map_err(|error| invalid(error.to_string()))?;
        match size.0 {
            0..=MAX_BODY_BYTES => Ok(()),
            found => Err(invalid(format!(
                "tools, output format, template variables and stop texts have {found} bytes together: at most \
                 {MAX_BODY_BYTES} are allowed; only messages may be longer"
            ))),
        }
    }

    fn check_sampling(&self) -> Result<(), Failure> {
        check_range("temperature", self.temperature, 0.0, 2.0)?;
        check_range("top_p", self.top_p, f32::MIN_POSITIVE, 1.0)?;
        check_range("min_p", self.min_p, 0.0, 1.0)?;
        check_range("repetition_penalty", self.repetition_penalty, 0.1, 10.0)?;
        check_range("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        check_range("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        check_count("logit_bias", self.logit_bias.len(), MAX_BIASES, "tokens")?;
        for (token, bias) in &self.logit_bias {
            check_range(&format!("logit_bias.{token}"), Some(*bias), -100.0, 100.0)?;
        }
        match self.top_logprobs {
            Some(1..) if self.logprobs != Some(true) => {
                Err(invalid("top_logprobs needs logprobs: set logprobs to true"))
            }
            Some(count @ 21..) => Err(invalid(format!("top_logprobs is {count}: expected 0 to 20"))),
            _ => Ok(()),
        }
    }

    fn check_stop(&self) -> Result<(), Failure> {
        if self.max_tokens == Some(0) {
            return Err(invalid("max_tokens is 0: expected at least 1, or leave it out"));
        }
        if let (Some(least), Some(most)) = (self.min_tokens, self.max_tokens)
            && least > most
        {
            return Err(invalid(format!(
                "min_tokens is {least} and max_tokens {most}: expected min_tokens to be at most max_tokens"
            )));
        }
        check_count("stop", self.stop.len(), 4, "texts")?;
        check_count("stop_token_ids", self.stop_token_ids.len(), MAX_STOP_TOKENS, "tokens")?;
        if self.stop.iter().any(String::is_empty) {
            return Err(invalid("stop contains an empty text: leave it out"));
        }
        Ok(())
    }

    fn check_tools(&self) -> Result<(), Failure> {
        check_count("tools", self.tools.len(), MAX_TOOLS, "tools")?;
        let mut names = BTreeSet::new();
        for (index, Tool { function: Function { name, .. }, .. }) in self.tools.iter().enumerate() {
            let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
            if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(is_usual) {
                return Err(invalid(format!(
                    "tools[{index}].function.name is {name:?}: expected 1 to {LONGEST_NAME} letters, digits, `_`, `-` and `.`"
                )));
            }
            if !names.insert(name) {
                return Err(invalid(format!(
                    "tools[{index}].function.name is {name:?}, which an earlier tool has already"
                )));
            }
        }
        self.check_tool_choice()?;
        self.messages.iter().enumerate().try_for_each(|(index, message)| check_message(index, message))
    }

    fn check_tool_choice(&self) -> Result<(), Failure> {
        match &self.tool_choice {
            None | Some(ToolChoice::Mode(ToolMode::None | ToolMode::Auto)) => return Ok(()),
            Some(ToolChoice::Mode(ToolMode::Required)) if self.tools.is_empty() => {
                return Err(invalid("tool_choice is \"required\" and there are no tools: add one to `tools`"));
            }
            Some(ToolChoice::Named { function, .. }) if self.tool(&function.name).is_none() => {
                return Err(invalid(format!("tool_choice names {:?}, which is none of the tools", function.name)));
            }
            Some(ToolChoice::Mode(ToolMode::Required) | ToolChoice::Named { .. }) => {}
        }
        if self.output_format().is_some() {
            return Err(invalid(
                "tool_choice requires a call, and the request sets an output format: leave one of the two out",
            ));
        }
        if self.ignores_eos() {
            return Err(invalid(
                "ignore_eos continues after the call that tool_choice requires: leave one of the two out",
            ));
        }
        Ok(())
    }

    fn check_output_format(&self) -> Result<(), Failure> {
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

/// Number of bytes that are written to it.
struct Size(usize);

impl Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn check_message(index: usize, message: &Message) -> Result<(), Failure> {
    let Message { role, content, tool_calls, .. } = message;
    if content.is_none() && (*role != Role::Assistant || tool_calls.is_empty()) {
        return Err(invalid(format!(
            "messages[{index}] has no content: only an assistant that calls tools may leave it out"
        )));
    }
    if *role != Role::Assistant && !tool_calls.is_empty() {
        return Err(invalid(format!("messages[{index}].tool_calls: only an assistant calls tools")));
    }
    for (number, call) in tool_calls.iter().enumerate() {
        if let Err(cause) = call.arguments() {
            return Err(invalid(format!(
                "messages[{index}].tool_calls[{number}].function.arguments is not a JSON object written as a text: {cause}"
            )));
        }
    }
    Ok(())
}

fn check_range(field: &str, value: Option<f32>, low: f32, high: f32) -> Result<(), Failure> {
    match value {
        Some(value) if !(low..=high).contains(&value) => {
            let low = if low == f32::MIN_POSITIVE { "more than 0".to_owned() } else { format!("{low}") };
            Err(invalid(format!("{field} is {value}: expected {low} to {high}")))
        }
        _ => Ok(()),
    }
}
