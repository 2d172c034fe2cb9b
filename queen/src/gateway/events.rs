//! Answers as server-sent events, as the OpenAI API streams them.

use std::{convert::Infallible, pin::Pin};

use axum::response::sse::Event;
use futures::{Stream, StreamExt as _, stream};
use rbee_schema::{Chunk, Failure, ToolCall, Usage};
use serde_json::{Value, json};

use crate::gateway::{
    openai::{self, Completion},
    reading::Reading,
};

/// What one answer tells.
enum Told {
    Event(Value),
    Done(Usage),
    Failed(Failure),
}

/// The events of several answers, as they come. With the first failure all end.
pub(super) fn events(
    completion: Completion,
    readings: Vec<Reading>,
    with_usage: bool,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let answers = readings.into_iter().enumerate().map(|(index, reading)| told(completion.clone(), index, reading));
    let rounds = stream::unfold(Some((stream::select_all(answers), Usage::default())), move |open| {
        let completion = completion.clone();
        async move {
            let (mut answers, usage) = open?;
            let (events, rest) = match answers.next().await {
                Some(Told::Event(event)) => (vec![data(&event)], Some((answers, usage))),
                Some(Told::Done(more)) => (Vec::new(), Some((answers, openai::together(usage, more)))),
                Some(Told::Failed(failure)) => (vec![data(&openai::error(&failure)), last()], None),
                None if with_usage => (vec![data(&completion.usage(usage)), last()], None),
                None => (vec![last()], None),
            };
            Some((stream::iter(events.into_iter().map(Ok)), rest))
        }
    });
    rounds.flatten()
}

fn data(event: &Value) -> Event {
    Event::default().data(event.to_string())
}

fn last() -> Event {
    Event::default().data("[DONE]")
}

/// What the answer of this index tells.
fn told(completion: Completion, index: usize, reading: Reading) -> Pin<Box<dyn Stream<Item = Told> + Send>> {
    let rounds = stream::unfold(Some((reading, 0)), move |open| {
        let completion = completion.clone();
        async move {
            let (mut reading, called) = open?;
            let chunk = reading.next().await;
            let rest = if chunk.is_last() { None } else { Some((reading, called + calls(&chunk))) };
            Some((stream::iter(round(&completion, index, chunk, called)), rest))
        }
    });
    Box::pin(rounds.flatten())
}

/// How many calls of tools a chunk has.
fn calls(chunk: &Chunk) -> usize {
    match chunk {
        Chunk::Tokens { calls, .. } => calls.len(),
        _ => 0,
    }
}

/// What one chunk tells, before which so many tools were called.
fn round(completion: &Completion, index: usize, chunk: Chunk, called: usize) -> Vec<Told> {
    let event = |delta: &Value, logprobs: &[_], reason| Told::Event(completion.delta(index, delta, logprobs, reason));
    match chunk {
        Chunk::Started { .. } => vec![event(&json!({ "role": "assistant", "content": "" }), &[], None)],
        Chunk::Resumed { .. } | Chunk::Paused { .. } | Chunk::Embeddings { .. } => Vec::new(),
        Chunk::Tokens { text, reasoning, calls, logprobs, .. } => {
            let delta = delta(text, reasoning, &calls, called);
            let is_silent = delta == json!({}) && logprobs.is_empty();
            if is_silent { Vec::new() } else { vec![event(&delta, &logprobs, None)] }
        }
        Chunk::Done { finish_reason, usage, .. } => {
            vec![event(&json!({}), &[], Some(finish_reason)), Told::Done(usage)]
        }
        Chunk::Error { error } => vec![Told::Failed(error)],
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
