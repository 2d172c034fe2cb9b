//! Parsing of a chat job's body.

use serde::de::DeserializeOwned;

use super::request::JobRequest;
use crate::{
    EmbeddingsRequest, Failure, MAX_BODY_BYTES,
    body::{check_values, invalid, read},
};

impl JobRequest {
    /// Parses and checks a body.
    ///
    /// # Errors
    /// `invalid-json`, or `invalid-request` with the path of the invalid field.
    pub fn from_json(body: &[u8]) -> Result<Self, Failure> {
        let request: Self = Self::read_as(body)?;
        request.check()?;
        if body.len() > MAX_BODY_BYTES {
            request.check_size_without_messages()?;
        }
        Ok(request)
    }

    /// Parses the body of a chat into `T`, which may have more fields than a job, without checking it further.
    ///
    /// # Errors
    /// `invalid-json`, or `invalid-request` with the path of the invalid field.
    pub fn read_as<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
        check_values(body)?;
        read(body).map_err(|failure| match EmbeddingsRequest::matches(body) {
            true => {
                invalid("the body asks for embeddings with `input`: the model continues chats, which have `messages`")
            }
            false => failure,
        })
    }
}
