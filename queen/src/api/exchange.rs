//! Bodies of requests and replies.

use rbee_nats::ApiRequest;
use rbee_schema::{Failure, FailureCode};
use serde::{Serialize, de::DeserializeOwned};

/// Reads the body of a request. An empty body and `null` stand for an empty object.
///
/// # Errors
/// `invalid-request` if the body does not have the shape of the operation.
pub(super) fn read<Q: DeserializeOwned>(request: &ApiRequest) -> Result<Q, Failure> {
    let body = match request.body().as_ref() {
        b"" | b"null" => b"{}",
        body => body,
    };
    serde_json::from_slice(body).map_err(|error| {
        let operation = request.operation();
        let message =
            format!("the request for `{operation}` could not be read: {error}; `rbee schema` prints its JSON Schema");
        Failure::new(FailureCode::InvalidRequest, message)
    })
}

/// Reads a request, and replies with the answer to it.
pub(super) fn reply_to<Q: DeserializeOwned, A: Serialize + Send + Sync + 'static>(
    request: ApiRequest,
    answer: impl FnOnce(Q) -> Result<A, Failure>,
) {
    let answer = read(&request).and_then(answer);
    reply(request, answer);
}

/// Replies with an answer or a failure.
pub(super) fn reply<A: Serialize + Send + Sync + 'static>(request: ApiRequest, answer: Result<A, Failure>) {
    tokio::spawn(async move {
        match answer {
            Ok(answer) => request.reply(&answer).await,
            Err(failure) => request.refuse(&failure).await,
        }
    });
}
