//! Tools: functions that a model may call, and its calls of them.
//!
//! Format: <https://platform.openai.com/docs/guides/function-calling>. A tool call is an answer: the client runs the function
//! and sends its result in a message with the role `tool`.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    JobRequest, Message, Role,
    validate::{check_count, invalid},
};
use crate::Failure;

/// Maximum number of tools of a request, as in the OpenAI API.
const MAX_TOOLS: usize = 128;

/// Longest name of a tool, as in the OpenAI API.
const LONGEST_NAME: usize = 64;

/// Tool that the model may call. Functions are the only kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// Kind of the tool, always `function`.
    pub r#type: ToolKind,
    /// Function to call.
    pub function: Function,
}

/// Kind of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ToolKind {
    /// A function.
    #[default]
    Function,
}

/// Function that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Function {
    /// Name of the function: at most 64 letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// Description for the model: the purpose of the function and when to call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of the arguments object. Default: any object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Map<String, Value>>,
}

/// Use of the tools by the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected \"none\", \"auto\", \"required\", or {\"type\":\"function\",\"function\":{\"name\":\"...\"}}"
)]
pub enum ToolChoice {
    /// One of the modes.
    Mode(ToolMode),
    /// The model must call this tool.
    Named {
        /// Kind of the tool, always `function`.
        r#type: ToolKind,
        /// Function that must be called.
        function: FunctionName,
    },
}

/// Mode of tool use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ToolMode {
    /// The model does not see the tools.
    None,
    /// The model decides.
    Auto,
    /// The model must call at least one tool.
    Required,
}

/// Reference to a function by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionName {
    /// Name of the function.
    pub name: String,
}

/// Tool call that the model made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCall {
    /// Id of the call, which its result refers to: nine letters and digits, derived from the job and the number of the call.
    pub id: String,
    /// Kind of the tool, always `function`.
    #[serde(default)]
    pub r#type: ToolKind,
    /// Function with its arguments.
    pub function: CalledFunction,
}

/// Function that was called, with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CalledFunction {
    /// Name of the function.
    pub name: String,
    /// Arguments: a JSON object, written as a text.
    pub arguments: String,
}

impl ToolCall {
    /// Arguments as a JSON object.
    ///
    /// # Errors
    /// The arguments are not a JSON object.
    pub fn arguments(&self) -> Result<Map<String, Value>, serde_json::Error> {
        serde_json::from_str(&self.function.arguments)
    }
}

impl JobRequest {
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

    fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.function.name == name)
    }

    pub(super) fn check_tools(&self) -> Result<(), Failure> {
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
