//! Embeddings.

use rbee_schema::{ModelName, Usage};
use serde::Serialize;

/// Vectors, in the order of their inputs.
#[derive(Debug, Serialize)]
pub(crate) struct EmbeddingList {
    object: &'static str,
    data: Vec<Embedding>,
    model: ModelName,
    usage: Usage,
}

#[derive(Debug, Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

/// A vector in the requested encoding.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Vector {
    /// List of numbers.
    Numbers(Vec<f32>),
    /// 32-bit floats, little-endian, in base64.
    Base64(String),
}

impl EmbeddingList {
    pub(crate) fn new(vectors: Vec<Vector>, model: ModelName, usage: Usage) -> Self {
        let embedding = |(index, embedding)| Embedding { object: "embedding", index, embedding };
        Self { object: "list", data: vectors.into_iter().enumerate().map(embedding).collect(), model, usage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_of_embeddings_has_the_fields_of_the_api() {
        let vectors = vec![Vector::Numbers(vec![0.5, -1.0]), Vector::Base64("AAAA".to_owned())];
        let list = EmbeddingList::new(vectors, "m".parse().expect("a name"), Usage::new(3, 0));
        assert_eq!(
            serde_json::to_string(&list).expect("JSON"),
            concat!(
                r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,-1.0]},"#,
                r#"{"object":"embedding","index":1,"embedding":"AAAA"}],"model":"m","#,
                r#""usage":{"prompt_tokens":3,"completion_tokens":0,"total_tokens":3}}"#
            )
        );
    }
}
