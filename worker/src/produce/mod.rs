//! The kinds of jobs that a worker can answer. Each implements [`crate::job::Producer`]. Step 5 of a job's path.

mod embeddings;
mod prompt_size;
mod text;
mod text_request;

pub(crate) use self::{embeddings::EmbeddingsProducer, text::TextProducer, text_request::TextModel};
