//! The end of an answer that is cut: what there is of it, and what it has cost.

use rbee_schema::{Chunk, Usage};

/// The index and the usage with which an answer may end that consists of these chunks. `None` if nothing of it is of use: it has
/// no token yet, or it consists of vectors, of which a client needs all.
pub fn partial_end<'a>(chunks: impl IntoIterator<Item = &'a Chunk>) -> Option<(u32, Usage)> {
    let (mut prompt, mut made) = (None, 0_u32);
    for chunk in chunks {
        match chunk {
            Chunk::Started { prompt_tokens, .. } => prompt = prompt.or(Some(*prompt_tokens)),
            Chunk::Tokens { .. } => made = made.saturating_add(chunk.count()),
            Chunk::Resumed { .. } | Chunk::Paused { .. } => {}
            Chunk::Embeddings { .. } | Chunk::Done { .. } | Chunk::Error { .. } => return None,
        }
    }
    prompt.filter(|_| made > 0).map(|prompt| (made, Usage::new(prompt, made)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started() -> Chunk {
        let name = "a";
        Chunk::Started {
            model: name.parse().expect("a name"),
            hive: name.parse().expect("a name"),
            worker: name.parse().expect("a name"),
            seed: 1,
            prompt_tokens: 7,
        }
    }

    #[test]
    fn answer_ends_with_the_tokens_that_are_there() {
        let vectors = Chunk::Embeddings { index: 0, vectors: vec![vec![1.0]], base64: Vec::new() };
        let (some, more) = (Chunk::tokens(0, vec![1, 2], "ab"), Chunk::tokens(2, vec![3], "c"));
        for (chunks, expected) in [
            (vec![], None),
            (vec![started()], None),
            (vec![started(), some.clone()], Some((2, Usage::new(7, 2)))),
            (vec![started(), some.clone(), Chunk::Paused { index: 2 }, more], Some((3, Usage::new(7, 3)))),
            (vec![started(), vectors], None),
            (vec![some], None),
        ] {
            assert_eq!(partial_end(&chunks), expected, "{chunks:?}");
        }
    }
}
