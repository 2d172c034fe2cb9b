//! Replies that are no answers: errors with the HTTP status of their code, and the list of models.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse as _, Response},
};
use rbee_nats::Bus;
use rbee_schema::{
    Failure, FailureCode, ModelName,
    api::{Model, ModelRequest},
};
use tokio::time::timeout;

use super::openai::{ErrorBody, ErrorType, ModelList};

/// Time after which a client may repeat a request that was refused for lack of room. A queue that is full has room again when
/// the next job ends, and a worker starts within seconds.
const REPEAT_AFTER: Duration = Duration::from_secs(5);

/// Longest time that a client of a full queue is told to wait. It may be another queue by then.
const LONGEST_REPEAT: Duration = Duration::from_secs(60);

/// Time for a queen to tell the pace of a model. It takes milliseconds, and the refusal is not worth a longer wait.
const ANSWER: Duration = Duration::from_secs(1);

/// The reply to a request that has become no job. A client of a full queue is told when the next job probably leaves it.
pub(super) async fn refuse_job(bus: &Bus, model: Option<&str>, failure: &Failure) -> Response {
    let mut response = refuse(failure);
    if failure.code != FailureCode::QueueFull {
        return response;
    }
    if let Some(model) = model.and_then(|model| model.parse::<ModelName>().ok()) {
        // Timer: the time of the next job's end is worth no longer wait.
        let model = timeout(ANSWER, bus.request::<_, Model>("model", &ModelRequest { model })).await;
        if let Ok(Ok(model)) = model {
            let seconds = repeat_after(&model).as_secs_f64().ceil() as u64;
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
    response
}

/// Time until the next job of a model probably ends, from its recent answers.
fn repeat_after(Model { slots, answer_ms, .. }: &Model) -> Duration {
    match answer_ms {
        Some(answer) if *slots > 0 => (Duration::from_millis(*answer) / *slots).clamp(SECOND, LONGEST_REPEAT),
        _ => REPEAT_AFTER,
    }
}

/// Shortest time that a client is told to wait: the header has whole seconds.
const SECOND: Duration = Duration::from_secs(1);

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
        | FailureCode::DeadlineExceeded
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
    fn client_of_a_full_queue_waits_until_the_next_job_probably_ends() {
        for (slots, answer_ms, expected) in
            [(4, Some(30_000), 8), (4, Some(10), 1), (1, Some(600_000), 60), (0, Some(30_000), 5), (4, None, 5)]
        {
            let model = serde_json::json!({
                "name": "m", "spec": { "reference": "mock:" }, "ready": 1, "starting": 0, "jobs_running": 0,
                "jobs_queued": 0, "slots": slots, "answer_ms": answer_ms,
            });
            let model = serde_json::from_value(model).expect("a model");
            assert_eq!(repeat_after(&model).as_secs_f64().ceil() as u64, expected, "{slots} {answer_ms:?}");
        }
    }

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
