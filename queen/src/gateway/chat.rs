//! `/v1/chat/completions`: a chat that is answered whole or as a stream of events. Step 1 of a job's path.
//!
//! Several choices (`n`) are as many jobs, each with a seed of its own: they run side by side and share their prompt in the
//! cache.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    Json,
    extract::{State, rejection::BytesRejection},
    http::HeaderMap,
    response::{
        IntoResponse as _, Response,
        sse::{KeepAlive, Sse},
    },
};
use bytes::Bytes;
use futures::future::try_join_all;
use rbee_schema::{Chunk, Failure, FailureCode, JobRequest, Usage};
use serde_json::{Value, json};

use crate::gateway::{
    Door,
    events::events,
    openai::{self, Choice, Completion, Said},
    reading::{Begun, Reading},
};

/// Choices that one request may ask for.
const MAX_CHOICES: u64 = 8;

pub(super) async fn complete(
    State(Door { bus, patience, keep_alive }): State<Door>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let Ok(body) = body else { return openai::too_large("chat") };
    let jobs =
        async { try_join_all(bodies(&body)?.iter().map(|one| Begun::new(bus.clone(), patience, &headers, one))).await };
    let begun: Vec<Begun<JobRequest>> = match jobs.await {
        Ok(begun) => begun,
        Err(failure) => return openai::refuse(&failure),
    };
    let Some(first) = begun.first() else { return openai::refuse(&none()) };
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let completion = Completion { job: first.job.clone(), model: first.model.clone(), created: since_1970.as_secs() };
    let is_streamed = first.request.stream == Some(true);
    let readings: Vec<Reading> = begun.into_iter().map(|begun| begun.reading).collect();
    if is_streamed {
        let events = events(completion, readings, wants_usage(&body));
        Sse::new(events).keep_alive(KeepAlive::new().interval(keep_alive)).into_response()
    } else {
        whole(&completion, readings).await
    }
}

/// The body of each choice's job.
fn bodies(body: &Bytes) -> Result<Vec<Bytes>, Failure> {
    let mut request: Value = serde_json::from_slice(body).unwrap_or_default();
    let count = match request["n"].as_u64() {
        None | Some(0 | 1) => return Ok(vec![body.clone()]),
        Some(count @ ..=MAX_CHOICES) => count,
        Some(count) => {
            let message = format!("n is {count}: at most {MAX_CHOICES} choices are possible");
            return Err(Failure::new(FailureCode::InvalidRequest, message));
        }
    };
    request["n"] = json!(1);
    let seed = request["seed"].as_u64();
    let body = |index: u64| {
        if let Some(seed) = seed {
            request["seed"] = json!(seed.wrapping_add(index));
        }
        Bytes::from(request.to_string())
    };
    Ok((0..count).map(body).collect())
}

fn none() -> Failure {
    Failure::new(FailureCode::Internal, "the request has become no job")
}

/// `stream_options.include_usage`: whether a stream ends with what it took.
fn wants_usage(body: &Bytes) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body["stream_options"]["include_usage"] == Value::Bool(true)
}

async fn whole(completion: &Completion, readings: Vec<Reading>) -> Response {
    match try_join_all(readings.into_iter().map(choice)).await {
        Ok(choices) => {
            let usage = choices.iter().fold(Usage::default(), |sum, (_, usage)| openai::together(sum, *usage));
            let choices: Vec<Choice> = choices.into_iter().map(|(choice, _)| choice).collect();
            Json(completion.whole(&choices, usage)).into_response()
        }
        Err(failure) => openai::refuse(&failure),
    }
}

/// One answer, when it is complete.
async fn choice(mut reading: Reading) -> Result<(Choice, Usage), Failure> {
    let mut said = Said::default();
    loop {
        match reading.next().await {
            Chunk::Started { .. } | Chunk::Resumed { .. } | Chunk::Paused { .. } | Chunk::Embeddings { .. } => {}
            Chunk::Tokens { text, reasoning, calls, logprobs, .. } => {
                said.text.push_str(&text);
                said.reasoning.push_str(&reasoning);
                said.calls.extend(calls);
                said.logprobs.extend(logprobs);
            }
            Chunk::Done { finish_reason, usage, .. } => return Ok((Choice { said, finish_reason }, usage)),
            Chunk::Error { error } => return Err(error),
        }
    }
}
