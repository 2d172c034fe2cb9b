//! Appends to a job's output: what follows from each answer of the server.
//!
//! ```text
//!  append ──▶ stored ─────────────────────────────────────▶ the next chunk
//!     ▲  ├──▶ no answer, or full ──▶ pause ──┐
//!     │  │                                   │
//!     └──┼───────────────────────────────────┘
//!        └──▶ stale ──▶ after a lost answer: is the chunk behind the last one ours? ──▶ stored, or fenced
//!                  └──▶ else: is there a later chunk than the last one? ──▶ fenced, or deleted
//! ```

use std::time::Duration;

/// Pause before the first retry of an append. Short, because most interruptions of the bus are reconnects of a few
/// milliseconds and a client waits for the chunk.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Maximum pause between two retries. The pause doubles up to it, so that a server that is away for long is not loaded and
/// output continues within a second of its return.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Time for which a running job waits for space in a full output stream. The leading queen deletes old output every few
/// seconds.
const FULL_PATIENCE: Duration = Duration::from_secs(30);

/// Position of a writer in the output of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Sequence of the last chunk. The next append names it, which fences a second writer.
    last: u64,
    /// Time for which an append waits for space in a full stream. Zero before the first chunk, and after it has passed once.
    full_patience: Duration,
}

/// Append of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Append {
    /// True after an attempt without an answer.
    may_be_stored: bool,
    pause: Duration,
}

/// Answer to an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The chunk is stored under this sequence.
    Stored(u64),
    /// The last chunk is another one than the append has named.
    Stale,
    /// The chunk is larger than any message may be.
    TooLarge,
    /// The stream is full.
    Full,
    /// The server did not answer. The chunk may be stored or not.
    Lost,
}

/// The step that follows from an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The chunk is stored.
    Done,
    /// Append again after this pause.
    Retry(Duration),
    /// Read the chunks behind the last one: see [`Position::confirm`].
    Confirm,
    /// Read the last chunk: see [`Position::explain`].
    Explain,
    /// The chunk can never be stored.
    TooLarge,
    /// The stream stays full.
    StayedFull,
}

/// Outcome of an append whose answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// The chunk is stored.
    Stored,
    /// Another worker has appended.
    Fenced,
    /// Nothing is stored behind the last chunk: see [`Position::explain`].
    Explain,
}

/// Reason why the last chunk is another one than this writer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Explained {
    /// Another worker has appended.
    Fenced,
    /// The writer's own chunk was deleted. What follows is appended to what is left.
    Deleted,
}

impl Append {
    /// The append of a chunk that was not sent yet.
    pub fn begin() -> Self {
        Self { may_be_stored: false, pause: FIRST_PAUSE }
    }
}

impl Position {
    /// Position behind the chunk with sequence `last`; 0 before the first one.
    pub fn behind(last: u64) -> Self {
        Self { last, full_patience: if last > 0 { FULL_PATIENCE } else { Duration::ZERO } }
    }

    /// Sequence of the last chunk.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Decides about the answer to an append that was begun `elapsed` ago.
    pub fn answered(&mut self, append: &mut Append, answer: Answer, elapsed: Duration) -> Next {
        match answer {
            Answer::Stored(sequence) => {
                self.stored(sequence);
                return Next::Done;
            }
            Answer::Stale if append.may_be_stored => return Next::Confirm,
            Answer::Stale => return Next::Explain,
            Answer::TooLarge => return Next::TooLarge,
            Answer::Full if elapsed >= self.full_patience => {
                self.full_patience = Duration::ZERO;
                return Next::StayedFull;
            }
            Answer::Full => {}
            Answer::Lost => append.may_be_stored = true,
        }
        let pause = append.pause;
        append.pause = (pause * 2).min(LONGEST_PAUSE);
        Next::Retry(pause)
    }

    /// Decides whether an append was stored whose answer was lost. `behind` are the chunks that are stored behind the last one,
    /// each with its sequence, and true for the chunk that was appended.
    pub fn confirm(&mut self, behind: &[(u64, bool)]) -> Confirmed {
        match behind {
            [(sequence, true)] => {
                self.stored(*sequence);
                Confirmed::Stored
            }
            [] => Confirmed::Explain,
            _ => Confirmed::Fenced,
        }
    }

    /// Explains why an append is stale, by the sequence of the last chunk that is stored.
    pub fn explain(&mut self, found: Option<u64>) -> Explained {
        match found {
            Some(found) if found >= self.last => Explained::Fenced,
            Some(_) | None => {
                self.last = found.unwrap_or(0);
                Explained::Deleted
            }
        }
    }

    fn stored(&mut self, sequence: u64) {
        (self.last, self.full_patience) = (sequence, FULL_PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn lost_answers_are_retried_with_doubled_pauses_and_then_confirmed() {
        let (mut position, mut append) = (Position::behind(5), Append::begin());
        let mut pauses = Vec::new();
        for _ in 0..6 {
            match position.answered(&mut append, Answer::Lost, Duration::ZERO) {
                Next::Retry(pause) => pauses.push(pause.as_millis()),
                next => panic!("{next:?}"),
            }
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000]);
        assert_eq!(position.answered(&mut append, Answer::Stale, Duration::ZERO), Next::Confirm);
        assert_eq!(position.answered(&mut Append::begin(), Answer::Stale, Duration::ZERO), Next::Explain);
    }

    #[test]
    fn chunk_is_confirmed_only_if_it_alone_follows_the_last_one() {
        for (behind, expected, last) in [
            (vec![(8, true)], Confirmed::Stored, 8),
            (vec![(8, false)], Confirmed::Fenced, 5),
            (vec![(8, true), (9, false)], Confirmed::Fenced, 5),
            (vec![], Confirmed::Explain, 5),
        ] {
            let mut position = Position::behind(5);
            assert_eq!((position.confirm(&behind), position.last()), (expected, last), "{behind:?}");
        }
    }

    #[test]
    fn stale_append_is_fenced_unless_the_own_chunk_was_deleted() {
        for (found, expected, last) in [
            (Some(9), Explained::Fenced, 5),
            (Some(5), Explained::Fenced, 5),
            (Some(3), Explained::Deleted, 3),
            (None, Explained::Deleted, 0),
        ] {
            let mut position = Position::behind(5);
            assert_eq!((position.explain(found), position.last()), (expected, last), "{found:?}");
        }
    }

    #[test]
    fn first_chunk_does_not_wait_for_space_and_later_ones_do_once() {
        let full = |position: &mut Position, seconds: u32| {
            position.answered(&mut Append::begin(), Answer::Full, seconds * SECOND)
        };
        assert_eq!(full(&mut Position::behind(0), 0), Next::StayedFull);
        let mut position = Position::behind(1);
        assert!(matches!(full(&mut position, 29), Next::Retry(_)));
        assert_eq!(full(&mut position, 30), Next::StayedFull);
        assert_eq!(full(&mut position, 0), Next::StayedFull, "the failure does not wait again");
        position.answered(&mut Append::begin(), Answer::Stored(2), Duration::ZERO);
        assert!(matches!(full(&mut position, 0), Next::Retry(_)));
    }
}
