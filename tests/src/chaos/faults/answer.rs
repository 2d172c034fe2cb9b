//! The answer to a job while a fault is injected.

use std::time::SystemTime;

use rbee_nats::OutputReader;
use rbee_schema::{Chunk, WorkerName};

use crate::{
    fleet::{Fleet, chat, tokens},
    wait::PATIENCE,
};

/// An answer that is read as it arrives.
pub(super) struct Answer {
    output: OutputReader,
    chunks: Vec<Chunk>,
}

impl Answer {
    /// Submits a chat to a model of the mock engine, and waits until its answer has `count` tokens.
    pub(super) async fn start(fleet: &Fleet, model: &str, message: &str, count: usize) -> Self {
        let (_, output) = fleet.submit(model, chat(message)).await;
        let mut answer = Self { output, chunks: Vec::new() };
        while tokens(&answer.chunks).len() < count {
            answer.next().await;
        }
        answer
    }

    /// The next chunk, and the time at which it arrived.
    pub(super) async fn next(&mut self) -> (Chunk, SystemTime) {
        let next = self.output.next(PATIENCE).await.expect("the answer continues").expect("the answer has no end yet");
        self.chunks.push(next.chunk.clone());
        (next.chunk, SystemTime::now())
    }

    /// The worker that runs the job now.
    pub(super) fn worker(&self) -> WorkerName {
        let worker_of = |chunk: &Chunk| match chunk {
            Chunk::Started { worker, .. } | Chunk::Resumed { worker, .. } => Some(worker.clone()),
            Chunk::Paused { .. }
            | Chunk::Tokens { .. }
            | Chunk::Embeddings { .. }
            | Chunk::Done { .. }
            | Chunk::Error { .. } => None,
        };
        self.chunks.iter().rev().find_map(worker_of).expect("an answer begins with the name of its worker")
    }

    /// Number of times that a worker resumed the job.
    pub(super) fn resume_count(&self) -> usize {
        self.chunks.iter().filter(|chunk| matches!(chunk, Chunk::Resumed { .. })).count()
    }

    /// Waits until another worker resumes the job; returns the time at which its first token arrived.
    pub(super) async fn resumes_elsewhere(&mut self) -> SystemTime {
        let (before, resumed) = (self.worker(), self.resume_count());
        loop {
            let (chunk, at) = self.next().await;
            if matches!(chunk, Chunk::Tokens { .. }) && self.resume_count() > resumed {
                assert_ne!(self.worker(), before, "another worker resumes the job");
                return at;
            }
        }
    }

    /// Waits for the end of the answer. The invariants check that it is complete.
    pub(super) async fn finish(&mut self) {
        while !self.chunks.last().is_some_and(Chunk::is_last) {
            self.next().await;
        }
        assert!(matches!(self.chunks.last(), Some(Chunk::Done { .. })), "{:?}", self.chunks.last());
    }
}
