//! Reads the progress of a job from the chunks that are stored.

use rbee_schema::Chunk;

/// The index of the next token or input after a chunk, where `index` is the one before it.
pub fn next_index(index: u32, chunk: &Chunk) -> u32 {
    let count = match chunk {
        Chunk::Tokens { ids, .. } => ids.len(),
        Chunk::Embeddings { vectors, base64, .. } => vectors.len() + base64.len(),
        Chunk::Started { .. }
        | Chunk::Resumed { .. }
        | Chunk::Paused { .. }
        | Chunk::Done { .. }
        | Chunk::Error { .. } => 0,
    };
    index.saturating_add(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The token ids of a chunk.
pub fn token_ids(chunk: &Chunk) -> &[u32] {
    match chunk {
        Chunk::Tokens { ids, .. } => ids,
        Chunk::Started { .. }
        | Chunk::Resumed { .. }
        | Chunk::Paused { .. }
        | Chunk::Embeddings { .. }
        | Chunk::Done { .. }
        | Chunk::Error { .. } => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index_after(chunks: &[Chunk]) -> u32 {
        chunks.iter().fold(0, next_index)
    }

    #[test]
    fn stored_inputs_are_counted_in_both_encodings() {
        let chunks = [
            Chunk::Embeddings { index: 0, vectors: vec![vec![1.0]; 2], base64: Vec::new() },
            Chunk::Paused { index: 2 },
            Chunk::Embeddings { index: 2, vectors: Vec::new(), base64: vec![String::new()] },
        ];
        assert_eq!(index_after(&chunks), 3);
    }

    #[test]
    fn stored_tokens_are_counted_whatever_their_text() {
        let chunks = [
            Chunk::tokens(0, vec![5, 6, 7], "a"),
            Chunk::Paused { index: 3 },
            Chunk::tokens(3, vec![8], ""),
            Chunk::tokens(4, Vec::new(), "held text"),
        ];
        assert_eq!(index_after(&chunks), 4);
        assert_eq!(chunks.iter().flat_map(token_ids).copied().collect::<Vec<u32>>(), [5, 6, 7, 8]);
    }
}
