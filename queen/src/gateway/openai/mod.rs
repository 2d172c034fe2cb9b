//! Types of the OpenAI API: requests that are more than a job, and replies. The order of the fields is that of the replies.

mod completion;
mod embedding;
mod error;
mod logprobs;
mod model;
mod request;

pub(super) use completion::{ChatCompletionChunk, Choice, CompletionId, Delta, Message, several_answers};
pub(super) use embedding::{EmbeddingList, Vector};
pub(super) use error::{ErrorBody, ErrorType};
pub(super) use model::ModelList;
pub(super) use request::ChatCompletionRequest;
