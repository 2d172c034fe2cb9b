//! The rules about one job: its output is one gapless answer, written by one attempt after the other, with one end.

use std::{collections::BTreeSet, rc::Rc, time::Instant};

use rbee_nats::next_index;
use rbee_schema::{Chunk, FailureCode};

use crate::{
    runtime::Process,
    words::{Job, Written},
};

/// Number of workers that may be lost while they run a job before it is given up for that alone.
const LOST: u32 = 20;

/// A job that the queue has accepted.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Sequence in the queue.
    pub sequence: u64,
    /// Time at which it was stored.
    pub at: Instant,
}

/// A delivery of a job to a worker that has not ended it.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub(super) process: Process,
    pub(super) reply: Rc<str>,
    pub(super) since: Instant,
}

/// State of one job.
#[derive(Debug, Clone)]
pub struct JobState {
    /// The job.
    pub job: Rc<Job>,
    /// Present when the queue has accepted it.
    pub accepted: Option<Accepted>,
    /// True when it has left the queue.
    pub has_left: bool,
    /// The failure code of its end; `None` inside for a complete answer.
    pub ended: Option<Option<FailureCode>>,
    /// True when a failure was published that could not be stored.
    pub ended_unstored: bool,
    /// Time of the first cancellation.
    pub cancelled: Option<Instant>,
    /// Workers that it has ended while everything was calm.
    pub ended_workers: u32,
    /// Workers that ended in a way that a job can cause while they ran it.
    pub blameable: u32,
    /// Index of the next token.
    pub next_index: u32,
    /// Number of chunks.
    pub chunks: u32,
    /// Number of attempts that have begun without a pause before.
    lost: u32,
    writer: u64,
    superseded: BTreeSet<u64>,
    pub(super) hold: Option<Hold>,
}

impl JobState {
    pub(super) fn new(job: Rc<Job>) -> Self {
        Self {
            job,
            accepted: None,
            has_left: false,
            ended: None,
            ended_unstored: false,
            cancelled: None,
            ended_workers: 0,
            blameable: 0,
            next_index: 0,
            chunks: 0,
            lost: 0,
            writer: 0,
            superseded: BTreeSet::new(),
            hold: None,
        }
    }

    /// True if the job waits or runs.
    pub fn is_open(&self) -> bool {
        self.accepted.is_some() && (!self.has_left || self.ended.is_none() && !self.ended_unstored)
    }

    /// True if the job waits and no worker has begun it.
    pub fn waits(&self) -> bool {
        self.accepted.is_some() && !self.has_left && self.chunks == 0 && self.hold.is_none()
    }

    /// Checks a stored chunk. Returns the rule that it breaks.
    pub(super) fn stored(&mut self, Written { chunk, writer }: &Written) -> Result<(), String> {
        if self.ended.is_some() {
            return Err(format!("{chunk:?} of attempt {writer} is stored behind the end of the answer"));
        }
        self.check_writer(chunk, *writer)?;
        let is_first = self.chunks == 0;
        self.chunks += 1;
        let next = next_index(self.next_index, chunk).map_err(|gone| format!("the output has a gap: {gone}"))?;
        match chunk {
            Chunk::Started { .. } if !is_first => return Err("the answer is started twice".to_owned()),
            Chunk::Tokens { index, ids, .. } => {
                let expected = (*index..).take(ids.len()).map(|index| self.job.token(index));
                if !expected.eq(ids.iter().copied()) || next > self.job.tokens {
                    return Err(format!("the tokens from index {index} on are not those of the job"));
                }
            }
            Chunk::Started { .. } | Chunk::Resumed { .. } => self.lost += 1,
            Chunk::Paused { .. } => self.lost = self.lost.saturating_sub(1),
            Chunk::Done { .. } if self.next_index != self.job.tokens => {
                return Err(format!("the answer ends after {} of {} tokens", self.next_index, self.job.tokens));
            }
            Chunk::Done { .. } => self.ended = Some(None),
            Chunk::Error { error } => {
                self.may_fail(error.code, *writer)?;
                self.ended = Some(Some(error.code));
            }
            Chunk::Embeddings { .. } => return Err("a text has no embeddings".to_owned()),
        }
        self.next_index = next;
        Ok(())
    }

    /// An attempt whose successor has begun writes no more.
    fn check_writer(&mut self, chunk: &Chunk, writer: u64) -> Result<(), String> {
        if self.superseded.contains(&writer) {
            return Err(format!("attempt {writer} writes {chunk:?} although attempt {} has begun", self.writer));
        }
        if writer != self.writer || self.chunks == 0 {
            let begins = matches!(chunk, Chunk::Started { .. } | Chunk::Resumed { .. } | Chunk::Error { .. });
            if !begins {
                return Err(format!("attempt {writer} writes {chunk:?} before it has begun"));
            }
            if self.chunks > 0 {
                self.superseded.insert(self.writer);
            }
            self.writer = writer;
        }
        Ok(())
    }

    fn may_fail(&self, code: FailureCode, writer: u64) -> Result<(), String> {
        let may = match code {
            FailureCode::Cancelled => self.cancelled.is_some(),
            FailureCode::TriedTooOften => self.blameable >= 2 || self.lost >= LOST,
            FailureCode::OutputFull => true,
            // A queen refuses the jobs of a model that nobody serves.
            _ => writer == 0,
        };
        if may { Ok(()) } else { Err(format!("the job fails with {code} without a reason")) }
    }
}
