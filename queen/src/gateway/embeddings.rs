//! `/v1/embeddings`: a job for vectors, answered whole. Step 1 of a job's path.
//!
//! Shapes: <https://platform.openai.com/docs/api-reference/embeddings>.

use axum::{
    Json,
    extract::{State, rejection::BytesRejection},
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use rbee_schema::{Chunk, EmbeddingsRequest};

use crate::gateway::{
    Door,
    openai::{self, Embeddings, Vector},
    reading::Begun,
};

pub(super) async fn embed(
    State(Door { bus, patience, .. }): State<Door>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let Ok(body) = body else { return openai::too_large("list of texts") };
    let begun = Begun::<EmbeddingsRequest>::new(bus, patience, &headers, &body).await;
    let Begun { model, mut reading, .. } = match begun {
        Ok(begun) => begun,
        Err(failure) => return openai::refuse(&failure),
    };
    let mut found = Vec::new();
    loop {
        match reading.next().await {
            Chunk::Started { .. } | Chunk::Resumed { .. } | Chunk::Paused { .. } | Chunk::Tokens { .. } => {}
            Chunk::Embeddings { vectors, base64, .. } => {
                found.extend(vectors.into_iter().map(Vector::Numbers));
                found.extend(base64.into_iter().map(Vector::Base64));
            }
            Chunk::Done { usage, .. } => return Json(Embeddings::new(found, model, usage)).into_response(),
            Chunk::Error { error } => return openai::refuse(&error),
        }
    }
}
