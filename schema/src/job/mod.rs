//! Chat jobs: the request body of the OpenAI chat API. `model` is optional, because the subject names the model.
//!
//! Format: <https://platform.openai.com/docs/api-reference/chat/create>. Unknown fields are tolerated.

mod deserialize;
mod message;
mod output_format;
mod parse;
mod request;
mod sampling;
mod tool;
mod validate;

pub use self::{
    message::{Message, Role},
    output_format::{NamedSchema, OutputFormat, ResponseFormat, StructuredOutputs},
    request::JobRequest,
    sampling::Sampling,
    tool::{CalledFunction, Function, FunctionName, Tool, ToolCall, ToolChoice, ToolKind, ToolMode},
};

#[cfg(test)]
mod tests;
