//! Messages of a chat.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    deserialize::{null_is_default, text_or_parts, text_or_parts_schema},
    tool::ToolCall,
};

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// Role of the author.
    pub role: Role,
    /// Content: a text, or a list of parts of type `text`, which are joined. Optional for an assistant that calls tools.
    #[serde(default, deserialize_with = "text_or_parts")]
    #[schemars(schema_with = "text_or_parts_schema")]
    pub content: Option<String>,
    /// Reasoning of an assistant before its answer. Most chat templates drop the reasoning of earlier messages.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "reasoning")]
    pub reasoning_content: Option<String>,
    /// Tool calls of an assistant.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub tool_calls: Vec<ToolCall>,
    /// Id of the tool call that this message is the result of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Name of the author, to distinguish several of one role. For a result: the name of the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Role of the author of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The operator, who instructs the model.
    #[serde(alias = "developer")]
    System,
    /// The person who talks to the model.
    User,
    /// The model.
    Assistant,
    /// A tool, which returns a result.
    Tool,
}

impl Message {
    /// Message of plain text.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: Some(content.into()),
            reasoning_content: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
        }
    }

    /// Content of the message, empty if there is none.
    pub fn text(&self) -> &str {
        self.content.as_deref().unwrap_or_default()
    }
}
