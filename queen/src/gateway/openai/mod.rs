//! Types of the OpenAI API: requests that are more than a job, and replies. The order of the fields is that of the replies.

mod completion;
mod embedding;
mod error;
mod logprobs;
mod model;
mod request;

pub(crate) use completion::{ChatCompletionChunk, Choice, CompletionId, Delta, Message, several_answers};
pub(crate) use embedding::{EmbeddingList, Vector};
pub(crate) use error::{ErrorBody, ErrorType};
pub(crate) use model::ModelList;
pub(crate) use request::ChatCompletionRequest;
