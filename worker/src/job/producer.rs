//! The seam between a job's life on the bus and what computes its answer.
//!
//! To let a worker answer another kind of job: implement [`Producer`] and [`Production`] in `crate::produce`, and choose
//! the producer in `crate::run`. Claims, fencing, cancellation, keep-alives and redelivery are the same for every kind.

use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use rbee_nats::StoredChunk;
use rbee_schema::{Chunk, Failure, FinishReason, JobId, Usage};
use tokio::time::Instant;

/// Answers the jobs of one kind of model. Shared by all slots of a worker.
pub(crate) trait Producer: Send + Sync {
    /// Reads a request and prepares the part of its answer that is not stored yet.
    ///
    /// # Errors
    /// The failure of the job, if it cannot be answered.
    fn prepare<'a>(&'a self, request: Request<'a>) -> BoxFuture<'a, Result<Box<dyn Production>, Failure>>;
}

/// A request, and the facts about its job.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    pub(crate) job: &'a JobId,
    /// The request body: JSON of the OpenAI API.
    pub(crate) body: Bytes,
    /// Chunks that earlier attempts have stored, oldest first. What they contain is not computed again.
    pub(crate) stored: &'a [StoredChunk],
    /// Number of tokens or inputs in `stored`: the index of the next one.
    pub(crate) next_index: u32,
    /// Start of this attempt.
    pub(crate) started: Instant,
}

/// The answer to one job while it is produced.
pub(crate) trait Production: Send {
    /// Facts for the first chunk of the answer.
    fn opening(&self) -> Opening;

    /// Starts the computation. Called once, after the first chunk was stored, and not for an answer that is complete.
    fn start(&mut self) -> BoxFuture<'_, ()>;

    /// Advances the computation: ready when there is new output, or with the failure of the job. Called only after
    /// [`Self::start`], while the answer is neither complete nor [full](Self::is_full). Nothing is lost if a caller stops
    /// polling.
    fn poll_advance(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>>;

    /// True if the gathered output must be [taken](Self::take) before the computation may advance.
    fn is_full(&self) -> bool;

    /// Takes the output that has gathered since the last call, as one chunk. `None` if there is none.
    fn take(&mut self) -> Option<Chunk>;

    /// Ends the answer with what there is of it, because its deadline has come. Output that has gathered can still be
    /// [taken](Self::take). False, and without an effect, if that is of no use to a client.
    fn cut(&mut self) -> bool {
        self.completion().is_some()
    }

    /// The end of the answer; `None` until it is complete.
    fn completion(&self) -> Option<Completion>;
}

/// Facts that the first chunk of an answer reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opening {
    /// Tokens of the rendered prompt, or of all inputs.
    pub(crate) prompt_tokens: u32,
    /// Seed of the random draws; 0 if there are none.
    pub(crate) seed: u64,
}

/// The end of a complete answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Completion {
    pub(crate) reason: FinishReason,
    pub(crate) usage: Usage,
}
