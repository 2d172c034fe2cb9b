//! Tools: functions that a model may call, and its calls of them.
//!
//! Format: <https://platform.openai.com/docs/guides/function-calling>. A tool call is an answer: the client runs the function
//! and sends its result in a message with the role `tool`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
