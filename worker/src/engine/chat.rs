//! What a model is asked to continue.

use rbee_schema::{JobRequest, Message, Tool};
use serde_json::{Map, Value};

/// A chat, and what its template is told besides.
#[derive(Debug, Clone, Copy)]
pub struct Chat<'a> {
    /// What was said.
    pub messages: &'a [Message],
    /// The tools that the model may call.
    pub tools: &'a [Tool],
    /// Values for the template.
    pub values: Option<&'a Map<String, Value>>,
}

impl<'a> Chat<'a> {
    /// Of messages alone.
    pub fn new(messages: &'a [Message]) -> Self {
        Self { messages, tools: &[], values: None }
    }

    /// Whether it is about calls of tools.
    pub fn has_calls(&self) -> bool {
        !self.tools.is_empty() || self.messages.iter().any(|message| !message.tool_calls.is_empty())
    }
}

impl<'a> From<&'a JobRequest> for Chat<'a> {
    fn from(request: &'a JobRequest) -> Self {
        Self {
            messages: &request.messages,
            tools: request.available_tools(),
            values: Some(&request.chat_template_kwargs),
        }
    }
}
