//! Answers of jobs that no worker runs, as `nats/src/job/answer.rs` gives them, and look-ups in the queue.

use rbee_schema::{Chunk, Failure};

use super::state::Queued;
use crate::{
    broker::{Answer, Headers, Op, Refusal, Stored},
    network::{Away, Connection},
    words::{Body, JobKey, Written, output_subject, published_subject},
};

/// Treatment of a job with output that is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    Leave,
    Answer,
}

/// Outcome of answering a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    Yes,
    Begun,
}

enum Appended {
    Yes,
    Stale,
}

/// Answers a queued job with a failure and removes it from the queue.
pub(super) async fn answer(
    connection: &Connection,
    queued: &Queued,
    failure: &Failure,
    begun: Begun,
) -> Result<Answered, Away> {
    let key = &queued.job.key;
    if let Appended::Stale = append(connection, key, failure, 0).await? {
        match last(connection, key).await? {
            // It belongs to an earlier job of the same id.
            Some((_, _, stored)) if stored < queued.stored => {}
            Some((_, true, _)) => {}
            Some((sequence, false, _)) if begun == Begun::Answer => {
                if let Appended::Stale = append(connection, key, failure, sequence).await? {
                    return Ok(Answered::Begun);
                }
            }
            Some(_) | None => return Ok(Answered::Begun),
        }
    }
    let (stream, sequence) = ("jobs".into(), queued.sequence);
    connection.request(|request| Op::Delete { stream, sequence, request }).await?;
    Ok(Answered::Yes)
}

async fn append(connection: &Connection, key: &JobKey, failure: &Failure, last: u64) -> Result<Appended, Away> {
    let chunk = Chunk::Error { error: failure.clone() };
    let body = Body::Chunk(Written { chunk, writer: 0 }.into());
    let (subject, headers) = (output_subject(key), Headers { expect: Some(last), ..Headers::default() });
    let sent = body.clone();
    let op = |request| Op::Publish { subject, body: Some(sent), size: 100, headers, request: Some(request) };
    match connection.request(op).await? {
        Answer::Stored { .. } => Ok(Appended::Yes),
        Answer::Refused(Refusal::Stale) => Ok(Appended::Stale),
        Answer::Refused(Refusal::Full) => {
            connection.publish(published_subject(key), body);
            Ok(Appended::Yes)
        }
        _ => Err(Away),
    }
}

async fn last(connection: &Connection, key: &JobKey) -> Result<Option<(u64, bool, std::time::Instant)>, Away> {
    let (stream, subject) = ("output".into(), output_subject(key));
    match connection.request(|request| Op::Last { stream, subject, request }).await? {
        Answer::Last(found) => Ok(found.map(|Stored { sequence, body, at, .. }| {
            let is_last = matches!(body, Some(Body::Chunk(written)) if written.chunk.is_last());
            (sequence, is_last, at)
        })),
        _ => Err(Away),
    }
}

/// Jobs in the queue whose subjects match a filter.
pub(super) async fn queued_jobs(connection: &Connection, filter: &str) -> Result<Vec<Queued>, Away> {
    let (stream, filter) = ("jobs".into(), filter.into());
    match connection.request(|request| Op::Read { stream, filter, from: 1, request }).await? {
        Answer::Messages(messages) => Ok(messages
            .into_iter()
            .filter_map(|Stored { sequence, body, at, .. }| match body {
                Some(Body::Job(job)) => Some(Queued { job, sequence, stored: at }),
                _ => None,
            })
            .collect()),
        _ => Err(Away),
    }
}
