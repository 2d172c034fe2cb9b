//! Answers as server-sent events, in the format of the OpenAI API.

use std::pin::Pin;

use axum::{Error, response::sse::Event};
use futures::{Stream, StreamExt as _, stream};
use rbee_schema::{Chunk, Failure, Usage};
use serde::Serialize;

use super::{
    answer::Answer,
    openai::{ChatCompletionChunk, CompletionId, Delta, several_answers},
    reply::error_body,
};

/// Part of one answer.
enum Update {
    Chunk(ChatCompletionChunk),
    Done(Usage),
    Failed(Failure),
}

/// Events of several answers, in the order in which they arrive. The first failure ends the stream.
pub(super) fn events(
    id: CompletionId,
    answers: Vec<Answer>,
    includes_usage: bool,
) -> impl Stream<Item = Result<Event, Error>> {
    let answers = answers.into_iter().enumerate().map(|(index, answer)| updates(id.clone(), index, answer));
    let rounds = stream::unfold(Some((stream::select_all(answers), Usage::default())), move |open| {
        let id = id.clone();
        async move {
            let (mut answers, usage) = open?;
            let (events, rest) = match answers.next().await {
                Some(Update::Chunk(chunk)) => (vec![data(&chunk)], Some((answers, usage))),
                Some(Update::Done(more)) => (Vec::new(), Some((answers, several_answers([usage, more])))),
                Some(Update::Failed(failure)) => (vec![data(&error_body(&failure)), last()], None),
                None if includes_usage => (vec![data(&id.usage_chunk(usage)), last()], None),
                None => (vec![last()], None),
            };
            Some((stream::iter(events), rest))
        }
    });
    rounds.flatten()
}

fn data(object: &impl Serialize) -> Result<Event, Error> {
    Event::default().json_data(object)
}

fn last() -> Result<Event, Error> {
    Ok(Event::default().data("[DONE]"))
}

/// Updates of the answer of this index.
fn updates(id: CompletionId, index: usize, answer: Answer) -> Pin<Box<dyn Stream<Item = Update> + Send>> {
    let rounds = stream::unfold(Some((answer, 0)), move |open| {
        let id = id.clone();
        async move {
            let (mut answer, tool_calls) = open?;
            let chunk = answer.next().await;
            let rest = if chunk.is_last() { None } else { Some((answer, tool_calls + count_calls(&chunk))) };
            Some((stream::iter(convert(&id, index, chunk, tool_calls)), rest))
        }
    });
    Box::pin(rounds.flatten())
}

/// Number of tool calls in a chunk.
fn count_calls(chunk: &Chunk) -> usize {
    match chunk {
        Chunk::Tokens { calls, .. } => calls.len(),
        Chunk::Started { .. }
        | Chunk::Resumed { .. }
        | Chunk::Paused { .. }
        | Chunk::Embeddings { .. }
        | Chunk::Done { .. }
        | Chunk::Error { .. } => 0,
    }
}

/// Updates of one chunk; `tool_calls` is the number of tool calls before it.
fn convert(id: &CompletionId, index: usize, chunk: Chunk, tool_calls: usize) -> Vec<Update> {
    match chunk {
        Chunk::Started { .. } => vec![Update::Chunk(id.chunk(index, Delta::role(), &[], None))],
        Chunk::Resumed { .. } | Chunk::Paused { .. } | Chunk::Embeddings { .. } => Vec::new(),
        Chunk::Tokens { text, reasoning, calls, logprobs, .. } => {
            let delta = Delta::new(text, reasoning, calls, tool_calls);
            let is_empty = delta == Delta::default() && logprobs.is_empty();
            if is_empty { Vec::new() } else { vec![Update::Chunk(id.chunk(index, delta, &logprobs, None))] }
        }
        Chunk::Done { finish_reason, usage, .. } => {
            vec![Update::Chunk(id.chunk(index, Delta::default(), &[], Some(finish_reason))), Update::Done(usage)]
        }
        Chunk::Error { error } => vec![Update::Failed(error)],
    }
}
