//! Continuity of a job's output: indices count from 0 and never repeat or skip.

use rbee_schema::Chunk;

/// Chunks of a job's output are no longer stored: they were deleted, or the stream was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "output of the job is no longer stored: expected index {expected} next, found {found}. The limits `output_age` and \
     `output_size` of the bus say how long output is kept"
)]
pub struct OutputGone {
    /// Index of the next token or input by the chunks before.
    pub expected: u32,
    /// Index of the chunk that was found.
    pub found: u32,
}

/// Index of the next token or input behind `chunk`, where `index` is the one behind the chunk before it, or 0.
///
/// # Errors
/// Chunks are missing between the two.
pub fn next_index(index: u32, chunk: &Chunk) -> Result<u32, OutputGone> {
    match chunk.index() {
        Some(found) if found != index => Err(OutputGone { expected: index, found }),
        _ => Ok(index.saturating_add(chunk.count())),
    }
}

#[cfg(test)]
mod tests {
    use rbee_schema::{Failure, FailureCode, FinishReason, Usage};

    use super::*;

    fn index_after(chunks: &[Chunk]) -> Result<u32, OutputGone> {
        chunks.iter().try_fold(0, next_index)
    }

    fn done(index: u32) -> Chunk {
        Chunk::Done { index, finish_reason: FinishReason::Stop, usage: Usage::new(1, index) }
    }

    #[test]
    fn stored_inputs_are_counted_in_both_encodings() {
        let chunks = [
            Chunk::Embeddings { index: 0, vectors: vec![vec![1.0]; 2], base64: Vec::new() },
            Chunk::Paused { index: 2 },
            Chunk::Embeddings { index: 2, vectors: Vec::new(), base64: vec![String::new()] },
        ];
        assert_eq!(index_after(&chunks), Ok(3));
    }

    #[test]
    fn stored_tokens_are_counted_whatever_their_text() {
        let chunks = [
            Chunk::tokens(0, vec![5, 6, 7], "a"),
            Chunk::Paused { index: 3 },
            Chunk::tokens(3, vec![8], ""),
            Chunk::tokens(4, Vec::new(), "held text"),
            done(4),
        ];
        assert_eq!(index_after(&chunks), Ok(4));
    }

    #[test]
    fn missing_chunks_are_noticed_wherever_they_were() {
        let error = || Chunk::Error { error: Failure::new(FailureCode::Cancelled, "cancelled") };
        for (chunks, expected) in [
            (vec![Chunk::tokens(3, vec![8], "a")], Err((0, 3))),
            (vec![Chunk::tokens(0, vec![1], "a"), Chunk::tokens(2, vec![3], "c")], Err((1, 2))),
            (vec![Chunk::Paused { index: 2 }], Err((0, 2))),
            (vec![Chunk::tokens(0, vec![1], "a"), done(7)], Err((1, 7))),
            (vec![Chunk::tokens(0, vec![1], "a"), Chunk::tokens(0, vec![1], "a")], Err((1, 0))),
            (vec![error()], Ok(0)),
        ] {
            let expected = expected.map_err(|(expected, found)| OutputGone { expected, found });
            assert_eq!(index_after(&chunks), expected, "{chunks:?}");
        }
    }
}
