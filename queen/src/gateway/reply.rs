//! Replies that are no answers: errors with the HTTP status of their code, and the list of models.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderName, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse as _, Response},
};
use rbee_schema::{Failure, FailureCode};

use super::openai::{ErrorBody, ErrorType, ModelList};

/// Time after which a client may repeat a request that was refused for lack of room. A queue that is full has room again when
/// the next job ends, and a worker starts within seconds.
const REPEAT_AFTER: Duration = Duration::from_secs(5);

/// An error reply.
pub(super) fn refuse(failure: &Failure) -> Response {
    (status(failure.code), retry_after(failure), Json(error_body(failure))).into_response()
}

/// The body of an error reply, and of the event that ends a failed stream.
pub(crate) fn error_body(failure: &Failure) -> ErrorBody {
    let is_clients = status(failure.code).is_client_error();
    let kind = if is_clients { ErrorType::InvalidRequestError } else { ErrorType::ServerError };
    ErrorBody::new(public_message(failure), kind, Some(failure.code))
}

/// Message for a client. What hives and workers report names machines, files and their output, which are for the operator.
fn public_message(failure: &Failure) -> String {
    match failure.code {
        FailureCode::InvalidJson
        | FailureCode::InvalidRequest
        | FailureCode::BodyTooLarge
        | FailureCode::BodyMissing
        | FailureCode::BodyCorrupt
        | FailureCode::UnknownModel
        | FailureCode::UnknownJob
        | FailureCode::UnknownWorker
        | FailureCode::UnknownBatch
        | FailureCode::ContextExceeded
        | FailureCode::Cancelled
        | FailureCode::TriedTooOften
        | FailureCode::QueueFull
        | FailureCode::StaleCommand
        | FailureCode::TimedOut
        | FailureCode::Internal => failure.message.clone(),
        _ => "the model cannot run at present; `rbee doctor` and `rbee explain MODEL` show its operator the cause"
            .to_owned(),
    }
}

/// The reply to an unknown path.
pub(super) fn no_such_path() -> Response {
    let message = "there is no such path: try /v1/chat/completions, /v1/embeddings, /v1/models or /healthz";
    let body = ErrorBody::new(message.to_owned(), ErrorType::InvalidRequestError, None);
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

/// The list of models.
pub(super) fn models(names: impl Iterator<Item = String>) -> Response {
    Json(ModelList::new(names)).into_response()
}

fn status(code: FailureCode) -> StatusCode {
    StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Time after which a client may repeat a request, if it may.
fn retry_after(failure: &Failure) -> Option<[(HeaderName, String); 1]> {
    let is_temporary = matches!(status(failure.code), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    (failure.retryable && is_temporary).then(|| [(RETRY_AFTER, REPEAT_AFTER.as_secs().to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_read_nothing_about_workers_and_machines() {
        let message = "the worker exited 5 times: thread 'main' panicked at /home/someone/main.rs";
        let body = |code| serde_json::to_string(&error_body(&Failure::new(code, message))).expect("JSON");
        for code in [FailureCode::CrashLoop, FailureCode::OutOfMemory, FailureCode::ModelMissing] {
            let body = body(code);
            assert!(!body.contains("someone") && body.contains(code.as_str()), "{body}");
        }
        assert!(
            body(FailureCode::InvalidRequest).contains("someone"),
            "what is wrong with a request is for its client"
        );
    }
}
