//! Functions that a model may call, and its calls of them.
//!
//! Shapes: <https://platform.openai.com/docs/guides/function-calling>. A call is an answer: whoever asked runs the function
//! and says its result in a message of the role `tool`.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    JobRequest, Message, Role,
    check::{at_most, invalid},
};
use crate::Failure;

/// Tools that a request may offer, and the longest name of one (the bounds of the OpenAI API).
const MAX_TOOLS: usize = 128;
const LONGEST_NAME: usize = 64;

/// Something that the model may ask for. Functions are the only kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// Always `function`.
    pub r#type: ToolKind,
    /// The function.
    pub function: Function,
}

/// What kind of tool it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ToolKind {
    /// A function.
    #[default]
    Function,
}

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Function {
    /// Its name: letters, digits, `_`, `-` and `.`, at most 64.
    pub name: String,
    /// What it does and when to call it, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON Schema of its arguments, which are an object; left out for any object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Map<String, Value>>,
}

/// Whether the model is to call a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected \"none\", \"auto\", \"required\", or {\"type\":\"function\",\"function\":{\"name\":\"...\"}}"
)]
pub enum ToolChoice {
    /// As the word says.
    Mode(ToolMode),
    /// This one.
    Named {
        /// Always `function`.
        r#type: ToolKind,
        /// Which function.
        function: FunctionName,
    },
}

/// Whether the model is to call a tool, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ToolMode {
    /// It hears of none.
    None,
    /// As it sees fit.
    Auto,
    /// At least one, whichever.
    Required,
}

/// Names a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionName {
    /// Its name.
    pub name: String,
}

/// A call that the model has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCall {
    /// By which the result names it: nine letters and digits, from the job and the number of the call.
    pub id: String,
    /// Always `function`.
    #[serde(default)]
    pub r#type: ToolKind,
    /// Which function, with which arguments.
    pub function: CalledFunction,
}

/// A function with arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CalledFunction {
    /// Its name.
    pub name: String,
    /// Its arguments: a JSON object, written as a text.
    pub arguments: String,
}

impl ToolCall {
    /// The arguments, read.
    ///
    /// # Errors
    /// When they are no JSON object.
    pub fn arguments(&self) -> Result<Map<String, Value>, serde_json::Error> {
        serde_json::from_str(&self.function.arguments)
    }
}

impl JobRequest {
    /// The tools that the model hears of.
    pub fn available_tools(&self) -> &[Tool] {
        match self.tool_choice {
            Some(ToolChoice::Mode(ToolMode::None)) => &[],
            _ => &self.tools,
        }
    }

    /// The tools of which the model must call one; none where it need not.
    pub fn required_tools(&self) -> Vec<&Tool> {
        match &self.tool_choice {
            Some(ToolChoice::Mode(ToolMode::Required)) => self.tools.iter().collect(),
            Some(ToolChoice::Named { function, .. }) => self.tool(&function.name).into_iter().collect(),
            None | Some(ToolChoice::Mode(ToolMode::None | ToolMode::Auto)) => Vec::new(),
        }
    }

    /// Whether the answer has one call at most: where that was asked for, or where the tool was named.
    pub fn allows_one_call(&self) -> bool {
        self.parallel_tool_calls == Some(false) || matches!(self.tool_choice, Some(ToolChoice::Named { .. }))
    }

    fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.function.name == name)
    }

    pub(super) fn check_tools(&self) -> Result<(), Failure> {
        at_most("tools", self.tools.len(), MAX_TOOLS, "tools")?;
        let mut names = BTreeSet::new();
        for (index, Tool { function: Function { name, .. }, .. }) in self.tools.iter().enumerate() {
            let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
            if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(is_usual) {
                return Err(invalid(format!(
                    "tools[{index}].function.name is {name:?}: expected 1 to {LONGEST_NAME} letters, digits, `_`, `-` and `.`"
                )));
            }
            if !names.insert(name) {
                return Err(invalid(format!("tools[{index}].function.name is {name:?}, as that of a tool before it")));
            }
        }
        self.check_tool_choice()?;
        self.messages.iter().enumerate().try_for_each(|(index, message)| check_message(index, message))
    }

    fn check_tool_choice(&self) -> Result<(), Failure> {
        match &self.tool_choice {
            None | Some(ToolChoice::Mode(ToolMode::None | ToolMode::Auto)) => return Ok(()),
            Some(ToolChoice::Mode(ToolMode::Required)) if self.tools.is_empty() => {
                return Err(invalid("tool_choice is \"required\" and there are no tools: offer one in `tools`"));
            }
            Some(ToolChoice::Named { function, .. }) if self.tool(&function.name).is_none() => {
                return Err(invalid(format!("tool_choice names {:?}, which is none of the tools", function.name)));
            }
            Some(ToolChoice::Mode(ToolMode::Required) | ToolChoice::Named { .. }) => {}
        }
        if self.output_format().is_some() {
            return Err(invalid(
                "tool_choice demands a call, and a form of the answer is asked for: leave one of the two out",
            ));
        }
        if self.ignores_eos() {
            return Err(invalid(
                "ignore_eos goes on where the call that tool_choice demands is complete: leave one of the two out",
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
                "messages[{index}].tool_calls[{number}].function.arguments is no JSON object written as a text: {cause}"
            )));
        }
    }
    Ok(())
}
