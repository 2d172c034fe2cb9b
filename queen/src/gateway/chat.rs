//! `/v1/chat/completions`: a job, answered whole or as a stream of events. Step 1 of a job's path.

use std::{
    convert::Infallible,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json,
    extract::{State, rejection::BytesRejection},
    http::HeaderMap,
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use bytes::Bytes;
use futures::{Stream, stream};
use rbee_schema::{Chunk, JobRequest, ToolCall};
use serde_json::{Value, json};

use crate::gateway::{
    Door,
    openai::{self, Completion, Said},
    reading::{Begun, Reading},
};

pub(super) async fn complete(
    State(Door { bus, patience, keep_alive }): State<Door>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let Ok(body) = body else { return openai::too_large("chat") };
    let Begun::<JobRequest> { job, model, request, reading } = match Begun::new(bus, patience, &headers, &body).await {
        Ok(begun) => begun,
        Err(failure) => return openai::refuse(&failure),
    };
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let completion = Completion { job, model, created: since_1970.as_secs() };
    let with_usage = wants_usage(&body);
    if request.stream == Some(true) {
        let events = events(completion, reading, with_usage);
        Sse::new(events).keep_alive(KeepAlive::new().interval(keep_alive)).into_response()
    } else {
        whole(completion, reading).await
    }
}

/// `stream_options.include_usage`: whether a stream ends with what it took.
fn wants_usage(body: &Bytes) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body["stream_options"]["include_usage"] == Value::Bool(true)
}

async fn whole(completion: Completion, mut reading: Reading) -> Response {
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
            Chunk::Done { finish_reason, usage, .. } => {
                return Json(completion.whole(&said, finish_reason, usage)).into_response();
            }
            Chunk::Error { error } => return openai::refuse(&error),
        }
    }
}

/// What an event adds to the answer.
fn delta(text: String, reasoning: String, calls: &[ToolCall], called: usize) -> Value {
    let mut delta = json!({});
    if !reasoning.is_empty() {
        delta["reasoning_content"] = Value::String(reasoning);
    }
    if !text.is_empty() {
        delta["content"] = Value::String(text);
    }
    if !calls.is_empty() {
        let numbered = |(number, call): (usize, &ToolCall)| {
            let mut call = json!(call);
            call["index"] = json!(called + number);
            call
        };
        delta["tool_calls"] = calls.iter().enumerate().map(numbered).collect();
    }
    delta
}

fn events(completion: Completion, reading: Reading, with_usage: bool) -> impl Stream<Item = Result<Event, Infallible>> {
    let rounds = stream::unfold(Some((reading, 0)), move |rest| {
        let completion = completion.clone();
        async move {
            let (mut reading, called) = rest?;
            let chunk = reading.next().await;
            let calls = calls(&chunk);
            let rest = if chunk.is_last() { None } else { Some((reading, called + calls)) };
            Some((stream::iter(round(&completion, chunk, called, with_usage)), rest))
        }
    });
    futures::StreamExt::flatten(rounds)
}

/// How many calls of tools a chunk has.
fn calls(chunk: &Chunk) -> usize {
    match chunk {
        Chunk::Tokens { calls, .. } => calls.len(),
        _ => 0,
    }
}

/// The events for one chunk, before which so many tools were called.
fn round(completion: &Completion, chunk: Chunk, called: usize, with_usage: bool) -> Vec<Result<Event, Infallible>> {
    let data = |value: Value| Ok(Event::default().data(value.to_string()));
    let last = || Ok(Event::default().data("[DONE]"));
    match chunk {
        Chunk::Started { .. } => {
            vec![data(completion.delta(&json!({ "role": "assistant", "content": "" }), &[], None))]
        }
        Chunk::Resumed { .. } | Chunk::Paused { .. } | Chunk::Embeddings { .. } => Vec::new(),
        Chunk::Tokens { text, reasoning, calls, logprobs, .. } => {
            let delta = delta(text, reasoning, &calls, called);
            let is_silent = delta == json!({}) && logprobs.is_empty();
            if is_silent { Vec::new() } else { vec![data(completion.delta(&delta, &logprobs, None))] }
        }
        Chunk::Done { finish_reason, usage, .. } => {
            let mut events = vec![data(completion.delta(&json!({}), &[], Some(finish_reason)))];
            if with_usage {
                events.push(data(completion.usage(usage)));
            }
            events.push(last());
            events
        }
        Chunk::Error { error } => vec![data(openai::error(&error)), last()],
    }
}
