//! Appends to a job's output, as `worker/src/job/writer.rs` does, with the same decisions.

use rbee_schema::{Chunk, Failure, FailureCode};
use rbee_worker::decide::append::{Answer as Appended, Append, Confirmed, Explained, LONGEST_PAUSE, Next, Position};

use super::{reporter::Reporter, shared::Shared};
use crate::{
    broker::{Answer, Headers, Op, Refusal, Stored},
    network::Away,
    words::{Body, JobKey, Written, output_subject},
};

/// Reason why a chunk was not appended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Fenced,
    Failed(Failure),
}

/// Appends to the output of a job for as long as no other worker does.
pub(super) struct Writer {
    shared: Shared,
    reporter: Reporter,
    key: JobKey,
    attempt: u64,
    pub(super) position: Position,
}

/// Reads the stored output of a job from a sequence on.
pub(super) async fn stored_output(shared: &Shared, key: &JobKey, from: u64) -> Result<Vec<(u64, Written)>, Away> {
    let (stream, filter) = ("output".into(), output_subject(key));
    let answer = shared.connection.request(|request| Op::Read { stream, filter, from, request }).await?;
    let Answer::Messages(messages) = answer else { return Err(Away) };
    let chunk = |message: Stored<Body>| match message.body {
        Some(Body::Chunk(written)) => Some((message.sequence, (*written).clone())),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(chunk).collect())
}

impl Writer {
    pub(super) fn new(shared: &Shared, reporter: &Reporter, key: &JobKey, last: u64) -> Self {
        Self {
            shared: shared.clone(),
            reporter: reporter.clone(),
            key: key.clone(),
            attempt: shared.site.next_attempt(),
            position: Position::behind(last),
        }
    }

    pub(super) async fn append(&mut self, chunk: &Chunk) -> Result<(), Refused> {
        let process = self.shared.child.process().clone();
        let (mut append, begun, mut blocked) = (Append::begin(), process.now(), None);
        loop {
            let answer = self.send(chunk).await;
            match self.position.answered(&mut append, answer, process.now() - begun) {
                Next::Done => return Ok(()),
                Next::Confirm => return self.confirm(chunk).await,
                Next::Explain => return Err(self.explain().await),
                Next::TooLarge => return Err(failed(FailureCode::AnswerTooLarge)),
                Next::StayedFull => return Err(failed(FailureCode::OutputFull)),
                Next::Retry(pause) => {
                    blocked.get_or_insert_with(|| self.reporter.blocked());
                    process.sleep(pause).await;
                }
            }
        }
    }

    async fn send(&self, chunk: &Chunk) -> Appended {
        let body = Body::Chunk(Written { chunk: chunk.clone(), writer: self.attempt }.into());
        let expect = (!self.shared.site.settings.flaws.no_fence).then_some(self.position.last());
        let (subject, headers) = (output_subject(&self.key), Headers { expect, ..Headers::default() });
        let op = |request| Op::Publish { subject, body: Some(body), size: 100, headers, request: Some(request) };
        match self.shared.connection.request(op).await {
            Ok(Answer::Stored { sequence, .. }) => Appended::Stored(sequence),
            Ok(Answer::Refused(Refusal::Stale)) => Appended::Stale,
            Ok(Answer::Refused(Refusal::Full)) => Appended::Full,
            Ok(_) | Err(Away) => Appended::Lost,
        }
    }

    async fn confirm(&mut self, chunk: &Chunk) -> Result<(), Refused> {
        loop {
            match stored_output(&self.shared, &self.key, self.position.last() + 1).await {
                Ok(chunks) => {
                    let behind: Vec<_> =
                        chunks.iter().map(|(sequence, found)| (*sequence, found.chunk == *chunk)).collect();
                    return match self.position.confirm(&behind) {
                        Confirmed::Stored => Ok(()),
                        Confirmed::Fenced => Err(Refused::Fenced),
                        Confirmed::Explain => Err(self.explain().await),
                    };
                }
                Err(Away) => self.shared.child.process().sleep(LONGEST_PAUSE).await,
            }
        }
    }

    async fn explain(&mut self) -> Refused {
        loop {
            let (stream, subject) = ("output".into(), output_subject(&self.key));
            match self.shared.connection.request(|request| Op::Last { stream, subject, request }).await {
                Ok(Answer::Last(found)) => {
                    return match self.position.explain(found.map(|found| found.sequence)) {
                        Explained::Fenced => Refused::Fenced,
                        Explained::Deleted => failed(FailureCode::OutputGone),
                    };
                }
                Ok(_) | Err(Away) => self.shared.child.process().sleep(LONGEST_PAUSE).await,
            }
        }
    }
}

fn failed(code: FailureCode) -> Refused {
    Refused::Failed(Failure::new(code, "as simulated"))
}
