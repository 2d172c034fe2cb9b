//! `/v1/embeddings`: a job for vectors, answered whole. Step 1 of a job's path.
//!
//! API: <https://platform.openai.com/docs/api-reference/embeddings>.

use axum::{
    Json,
    extract::{State, rejection::BytesRejection},
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use rbee_schema::Chunk;

use super::{
    answer::{Submitted, record_refusal, submit},
    openai::{EmbeddingList, Vector},
    reply,
    service::Service,
};
use crate::inference::Request;

pub(super) async fn embed(
    State(service): State<Service>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let Ok(body) = body else { return reply::too_large("list of texts") };
    let request = match Request::read_embeddings(&body) {
        Ok(request) => request,
        Err(failure) => {
            record_refusal(&service, &headers, &failure);
            return reply::refuse(&failure);
        }
    };
    let model = request.model().map(str::to_owned);
    match submit(&service, &headers, request).await {
        Ok(submitted) => whole(submitted).await,
        Err(failure) => reply::refuse_job(&service.bus, model.as_deref(), &failure).await,
    }
}

async fn whole(Submitted { model, mut answer, .. }: Submitted) -> Response {
    let mut vectors = Vec::new();
    loop {
        match answer.next().await {
            Chunk::Started { .. } | Chunk::Resumed { .. } | Chunk::Paused { .. } | Chunk::Tokens { .. } => {}
            Chunk::Embeddings { vectors: numbers, base64, .. } => {
                vectors.extend(numbers.into_iter().map(Vector::Numbers));
                vectors.extend(base64.into_iter().map(Vector::Base64));
            }
            Chunk::Done { usage, .. } => return Json(EmbeddingList::new(vectors, model, usage)).into_response(),
            Chunk::Error { error } => return reply::refuse(&error),
        }
    }
}
