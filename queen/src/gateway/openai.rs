//! The shapes of the OpenAI API, written.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use rbee_schema::{
    Failure, FailureCode, FinishReason, JobId, MAX_BODY_BYTES, ModelName, TokenLogprob, TokenScore, ToolCall, Usage,
};
use serde::Serialize;
use serde_json::{Value, json};

/// An error with the status that HTTP has for it.
pub(super) fn refuse(failure: &Failure) -> Response {
    (status(failure.code), Json(error(failure))).into_response()
}

/// The error object.
pub(super) fn error(failure: &Failure) -> Value {
    let kind = if status(failure.code).is_client_error() { "invalid_request_error" } else { "server_error" };
    json!({ "error": { "message": failure.message, "type": kind, "param": null, "code": failure.code } })
}

/// A body of more than a job may have; `what` is to be shorter.
pub(super) fn too_large(what: &str) -> Response {
    let message = format!("the body is larger than {MAX_BODY_BYTES} bytes: send a shorter {what}");
    refuse(&Failure::new(FailureCode::BodyTooLarge, message))
}

pub(super) fn no_such_path() -> Response {
    let message = "there is no such path: try /v1/chat/completions, /v1/embeddings, /v1/models or /healthz";
    let body = json!({ "error": { "message": message, "type": "invalid_request_error", "param": null, "code": null } });
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

fn status(code: FailureCode) -> StatusCode {
    match code {
        FailureCode::InvalidJson | FailureCode::InvalidRequest | FailureCode::ContextExceeded => {
            StatusCode::BAD_REQUEST
        }
        FailureCode::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        FailureCode::UnknownModel | FailureCode::UnknownJob | FailureCode::UnknownWorker => StatusCode::NOT_FOUND,
        FailureCode::QueueFull => StatusCode::TOO_MANY_REQUESTS,
        FailureCode::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        FailureCode::NoCapacity
        | FailureCode::PortsExhausted
        | FailureCode::SpawnFailed
        | FailureCode::ReadyTimeout
        | FailureCode::CrashLoop
        | FailureCode::ModelMissing
        | FailureCode::ModelInvalid
        | FailureCode::ModelUnsupported => StatusCode::SERVICE_UNAVAILABLE,
        // Codes that are not listed are faults of ours.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

pub(super) fn models<'a>(names: impl Iterator<Item = &'a str>) -> Response {
    let model = |name| json!({ "id": name, "object": "model", "created": 0, "owned_by": "rbee" });
    Json(json!({ "object": "list", "data": names.map(model).collect::<Vec<_>>() })).into_response()
}

/// What every answer to one request has in common.
#[derive(Debug, Clone)]
pub(super) struct Completion {
    pub(super) job: JobId,
    pub(super) model: ModelName,
    /// Seconds since 1970.
    pub(super) created: u64,
}

impl Completion {
    /// One event of the choice of this index.
    pub(super) fn delta(
        &self,
        index: usize,
        delta: &Value,
        probable: &[TokenLogprob],
        finish_reason: Option<FinishReason>,
    ) -> Value {
        let logprobs = logprobs(probable);
        self.object(
            "chat.completion.chunk",
            &json!([{ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason }]),
        )
    }

    /// The last event of a stream whose reader asked for usage.
    pub(super) fn usage(&self, usage: Usage) -> Value {
        let mut object = self.object("chat.completion.chunk", &json!([]));
        object["usage"] = json!(usage);
        object
    }

    /// The whole answer.
    pub(super) fn whole(&self, choices: &[Choice], usage: Usage) -> Value {
        let choice = |(index, Choice { said, finish_reason }): (usize, &Choice)| {
            let (message, logprobs) = (said.message(), logprobs(&said.logprobs));
            json!({ "index": index, "message": message, "logprobs": logprobs, "finish_reason": finish_reason })
        };
        let mut object = self.object("chat.completion", &choices.iter().enumerate().map(choice).collect());
        object["usage"] = json!(usage);
        object
    }

    fn object(&self, object: &str, choices: &Value) -> Value {
        json!({
            "id": format!("chatcmpl-{}", self.job),
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }
}

/// What several answers to one prompt took.
pub(super) fn together(one: Usage, other: Usage) -> Usage {
    Usage::new(one.prompt_tokens.max(other.prompt_tokens), one.completion_tokens + other.completion_tokens)
}

/// A complete answer.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) said: Said,
    pub(super) finish_reason: FinishReason,
}

/// What an answer says.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) reasoning: String,
    pub(super) calls: Vec<ToolCall>,
    pub(super) logprobs: Vec<TokenLogprob>,
}

impl Said {
    /// The message that it is. An assistant that calls tools may say nothing.
    fn message(&self) -> Value {
        let is_silent = self.text.is_empty() && !self.calls.is_empty();
        let content = if is_silent { Value::Null } else { json!(self.text) };
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = json!(self.reasoning);
        }
        if !self.calls.is_empty() {
            message["tool_calls"] = json!(self.calls);
        }
        message
    }
}

/// How probable tokens were; `null` where nobody has asked for it.
fn logprobs(tokens: &[TokenLogprob]) -> Value {
    let scored = |token: &TokenScore| json!({ "token": token.text, "logprob": token.logprob, "bytes": token.bytes() });
    let of_token = |TokenLogprob { token, top }: &TokenLogprob| {
        let mut object = scored(token);
        object["top_logprobs"] = top.iter().map(scored).collect();
        object
    };
    match tokens {
        [] => Value::Null,
        tokens => json!({ "content": tokens.iter().map(of_token).collect::<Vec<Value>>(), "refusal": null }),
    }
}

/// Vectors, in the order of their inputs.
#[derive(Debug, Serialize)]
pub(super) struct Embeddings {
    object: &'static str,
    data: Vec<Embedding>,
    model: ModelName,
    usage: Usage,
}

#[derive(Debug, Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

/// A vector, as it was asked for.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Vector {
    /// As numbers.
    Numbers(Vec<f32>),
    /// As 32-bit floats, little-endian, in base64.
    Base64(String),
}

impl Embeddings {
    pub(super) fn new(vectors: Vec<Vector>, model: ModelName, usage: Usage) -> Self {
        let embedding = |(index, embedding)| Embedding { object: "embedding", index, embedding };
        Self { object: "list", data: vectors.into_iter().enumerate().map(embedding).collect(), model, usage }
    }
}
