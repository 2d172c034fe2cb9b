//! A chat in the form in which templates read it, which is that of transformers
//! (<https://huggingface.co/docs/transformers/chat_extras>).

use rbee_schema::{Failure, FailureCode, Message, Role, Tool, ToolCall};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::contract::Chat;

/// A chat, converted for a template.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::text) struct TemplateChat {
    pub(super) messages: Vec<Value>,
    /// List of tools; `Null` if there are none.
    pub(super) tools: Value,
    /// The `chat_template_kwargs` of the request.
    pub(super) values: Map<String, Value>,
}

impl TemplateChat {
    /// Converts a chat. Every text in it, which the client wrote, is replaced by `write(text)`.
    ///
    /// # Errors
    /// `invalid-request` if the arguments of a tool call are not a JSON object.
    pub(in crate::text) fn new(chat: &Chat<'_>, write: &dyn Fn(&str) -> String) -> Result<Self, Failure> {
        let messages = chat.messages.iter().map(|message| message_value(message, write));
        let tools: Vec<Value> = chat.tools.iter().map(|tool| tool_value(tool, write)).collect();
        let tools = if tools.is_empty() { Value::Null } else { Value::Array(tools) };
        let values = chat.values.map(|values| replace_texts_in_map(values, write)).unwrap_or_default();
        Ok(Self { messages: messages.collect::<Result<_, Failure>>()?, tools, values })
    }

    /// Puts the tools into the system message as a text, for templates that read them there.
    pub(super) fn with_tools_in_system(mut self) -> Self {
        if self.tools.is_null() {
            return self;
        }
        if self.messages.first().is_none_or(|first| first["role"] != "system") {
            self.messages.insert(0, json!({ "role": "system", "content": "" }));
        }
        self.messages[0]["tools"] = Value::String(self.tools.to_string());
        self
    }
}

fn message_value(message: &Message, write: &dyn Fn(&str) -> String) -> Result<Value, Failure> {
    let Message { role, reasoning_content, tool_calls, tool_call_id, name, .. } = message;
    let role = match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut value = json!({ "role": role, "content": write(message.text()) });
    // Absent fields stay undefined: templates test `is defined`.
    for (key, text) in [("reasoning_content", reasoning_content), ("tool_call_id", tool_call_id), ("name", name)] {
        if let Some(text) = text {
            value[key] = Value::String(write(text));
        }
    }
    if !tool_calls.is_empty() {
        value["tool_calls"] = tool_calls.iter().map(|call| call_value(call, write)).collect::<Result<_, Failure>>()?;
    }
    Ok(value)
}

/// Converts a tool call. Templates read the arguments as an object.
fn call_value(call: &ToolCall, write: &dyn Fn(&str) -> String) -> Result<Value, Failure> {
    let arguments = call.arguments().map_err(|cause| {
        Failure::new(
            FailureCode::InvalidRequest,
            format!("the arguments of a tool call are not a JSON object: {cause}"),
        )
    })?;
    let function = json!({ "name": write(&call.function.name), "arguments": replace_texts_in_map(&arguments, write) });
    Ok(json!({ "id": write(&call.id), "type": "function", "function": function }))
}

fn tool_value(tool: &Tool, write: &dyn Fn(&str) -> String) -> Value {
    let mut function = json!({ "name": write(&tool.function.name) });
    if let Some(description) = &tool.function.description {
        function["description"] = Value::String(write(description));
    }
    // Templates expect a schema.
    let parameters = tool.function.parameters.as_ref().map(|parameters| replace_texts_in_map(parameters, write));
    function["parameters"] = parameters.map_or_else(|| json!({ "type": "object", "properties": {} }), Value::Object);
    json!({ "type": "function", "function": function })
}

fn replace_texts(value: &Value, write: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(write(text)),
        Value::Array(values) => values.iter().map(|value| replace_texts(value, write)).collect(),
        Value::Object(map) => Value::Object(replace_texts_in_map(map, write)),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn replace_texts_in_map(map: &Map<String, Value>, write: &dyn Fn(&str) -> String) -> Map<String, Value> {
    map.iter().map(|(key, value)| (write(key), replace_texts(value, write))).collect()
}
