//! Chat jobs: the request body of the OpenAI chat API. `model` is optional, because the subject names the model.
//!
//! Format: <https://platform.openai.com/docs/api-reference/chat/create>. Unknown fields are tolerated.

mod body;
mod deserialize;
mod format_choice;
mod message;
mod output_format;
mod refusal;
mod request;
mod sampling;
mod tool;
mod tool_use;
mod validate;

pub(crate) use self::body::read;
pub use self::{
    body::MAX_BODY_BYTES,
    message::{Message, Role},
    output_format::{NamedSchema, OutputFormat, ResponseFormat, StructuredOutputs},
    request::JobRequest,
    sampling::Sampling,
    tool::{CalledFunction, Function, FunctionName, Tool, ToolCall, ToolChoice, ToolKind, ToolMode},
};

#[cfg(test)]
mod tests;
