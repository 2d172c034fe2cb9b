//! A chat as templates see it: as transformers hands it to them
//! (<https://huggingface.co/docs/transformers/chat_extras>).

use rbee_schema::{Failure, FailureCode, Message, Role, Tool, ToolCall};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::contract::Chat;

/// A chat for a template.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Turns {
    pub(super) messages: Vec<Value>,
    /// None is `null`.
    pub(super) tools: Value,
    pub(super) values: Map<String, Value>,
}

impl Turns {
    /// A chat, of which every text that somebody wrote goes through `write`.
    ///
    /// # Errors
    /// `invalid-request` if arguments of a call are no JSON object.
    pub fn new(chat: &Chat<'_>, write: &dyn Fn(&str) -> String) -> Result<Self, Failure> {
        let messages = chat.messages.iter().map(|message| turn(message, write)).collect::<Result<_, Failure>>()?;
        let tools: Vec<Value> = chat.tools.iter().map(|tool| offer(tool, write)).collect();
        let tools = if tools.is_empty() { Value::Null } else { Value::Array(tools) };
        let values = chat.values.map(|values| rewritten_map(values, write)).unwrap_or_default();
        Ok(Self { messages, tools, values })
    }

    /// The same for a template that looks for tools in the system's message, as a text.
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

fn turn(message: &Message, write: &dyn Fn(&str) -> String) -> Result<Value, Failure> {
    let Message { role, reasoning_content, tool_calls, tool_call_id, name, .. } = message;
    let role = match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut turn = json!({ "role": role, "content": write(message.text()) });
    // What a message lacks is not defined.
    for (key, text) in [("reasoning_content", reasoning_content), ("tool_call_id", tool_call_id), ("name", name)] {
        if let Some(text) = text {
            turn[key] = Value::String(write(text));
        }
    }
    if !tool_calls.is_empty() {
        turn["tool_calls"] = tool_calls.iter().map(|call| called(call, write)).collect::<Result<_, Failure>>()?;
    }
    Ok(turn)
}

/// Templates get arguments as an object.
fn called(call: &ToolCall, write: &dyn Fn(&str) -> String) -> Result<Value, Failure> {
    let arguments = call.arguments().map_err(|cause| {
        Failure::new(FailureCode::InvalidRequest, format!("the arguments of a tool call are no JSON object: {cause}"))
    })?;
    let function = json!({ "name": write(&call.function.name), "arguments": rewritten_map(&arguments, write) });
    Ok(json!({ "id": write(&call.id), "type": "function", "function": function }))
}

fn offer(tool: &Tool, write: &dyn Fn(&str) -> String) -> Value {
    let mut function = json!({ "name": write(&tool.function.name) });
    if let Some(description) = &tool.function.description {
        function["description"] = Value::String(write(description));
    }
    // Templates take for granted that there is a schema.
    let parameters = tool.function.parameters.as_ref().map(|parameters| rewritten_map(parameters, write));
    function["parameters"] = parameters.map_or_else(|| json!({ "type": "object", "properties": {} }), Value::Object);
    json!({ "type": "function", "function": function })
}

fn rewritten(value: &Value, write: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(write(text)),
        Value::Array(values) => values.iter().map(|value| rewritten(value, write)).collect(),
        Value::Object(map) => Value::Object(rewritten_map(map, write)),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn rewritten_map(map: &Map<String, Value>, write: &dyn Fn(&str) -> String) -> Map<String, Value> {
    map.iter().map(|(key, value)| (write(key), rewritten(value, write))).collect()
}
