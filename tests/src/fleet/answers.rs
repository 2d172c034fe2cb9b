//! Jobs and their answers, as tests write and read them.

use rbee_nats::OutputReader;
use rbee_schema::Chunk;

use crate::wait::PATIENCE;

/// The body of a chat with one message.
pub fn chat(content: &str) -> serde_json::Value {
    serde_json::json!({ "messages": [{ "role": "user", "content": content }] })
}

/// Reads an answer to its end.
///
/// # Panics
/// When the end does not come in time.
pub async fn whole(output: &mut OutputReader) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    while let Some(committed) = output.next(PATIENCE).await.expect("the answer continues") {
        chunks.push(committed.chunk);
    }
    chunks
}

/// The token ids of an answer, each with its index.
pub fn tokens(chunks: &[Chunk]) -> Vec<(u32, u32)> {
    let tokens_of = |chunk: &Chunk| match chunk {
        Chunk::Tokens { index, ids, .. } => (*index..).zip(ids.iter().copied()).collect(),
        Chunk::Started { .. }
        | Chunk::Resumed { .. }
        | Chunk::Paused { .. }
        | Chunk::Embeddings { .. }
        | Chunk::Done { .. }
        | Chunk::Error { .. } => Vec::new(),
    };
    chunks.iter().flat_map(tokens_of).collect()
}

/// The text of an answer.
pub fn text(chunks: &[Chunk]) -> String {
    let text_of = |chunk: &Chunk| match chunk {
        Chunk::Tokens { text, .. } => text.clone(),
        Chunk::Started { .. }
        | Chunk::Resumed { .. }
        | Chunk::Paused { .. }
        | Chunk::Embeddings { .. }
        | Chunk::Done { .. }
        | Chunk::Error { .. } => String::new(),
    };
    chunks.iter().map(text_of).collect()
}
