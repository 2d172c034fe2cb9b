//! Who says what in a chat.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    reading::{null_is_default, text_or_parts, text_or_parts_schema},
    tool::ToolCall,
};

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said: a text, or a list of parts of type `text`, which are joined.
    /// An assistant that calls tools may leave it out.
    #[serde(default, deserialize_with = "text_or_parts")]
    #[schemars(schema_with = "text_or_parts_schema")]
    pub content: Option<String>,
    /// What an assistant thought before it said that. Templates leave most of it out.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "reasoning")]
    pub reasoning_content: Option<String>,
    /// The tools that an assistant called.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub tool_calls: Vec<ToolCall>,
    /// The call of which this is the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Who says it, among several of one role; for a result, the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions to the model.
    #[serde(alias = "developer")]
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool.
    Tool,
}

impl Message {
    /// A message of plain text.
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

    /// What is said; empty where nothing is.
    pub fn text(&self) -> &str {
        self.content.as_deref().unwrap_or_default()
    }
}
