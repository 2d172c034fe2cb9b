//! The chat that a model continues.

use rbee_schema::{JobRequest, Message, Tool};
use serde_json::{Map, Value};

/// A chat, and the other inputs of the model's chat template.
#[derive(Debug, Clone, Copy)]
pub struct Chat<'a> {
    /// Messages of the chat, oldest first.
    pub messages: &'a [Message],
    /// Tools that the model may call.
    pub tools: &'a [Tool],
    /// Additional template variables (`chat_template_kwargs` of the request).
    pub values: Option<&'a Map<String, Value>>,
}

impl<'a> Chat<'a> {
    /// A chat without tools or additional template variables.
    pub fn new(messages: &'a [Message]) -> Self {
        Self { messages, tools: &[], values: None }
    }

    /// True if tools are offered, or if a message contains tool calls.
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
