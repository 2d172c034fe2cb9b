//! `/v1/embeddings`: a job for vectors, answered whole. Step 1 of a job's path.
//!
//! API: <https://platform.openai.com/docs/api-reference/embeddings>.

use axum::{
    Json,
    extract::{Request as HttpRequest, State},
    response::{IntoResponse as _, Response},
};
use rbee_schema::{Chunk, Failure};

use super::{
    answer::{Submitted, record_refusal, submit},
    body::RequestBody,
    openai::{EmbeddingList, Vector},
    reply,
    service::Service,
};
use crate::inference::Request;

pub(super) async fn embed(State(service): State<Service>, request: HttpRequest) -> Response {
    let headers = request.headers().clone();
    let read = async {
        let body = RequestBody::read(&service, request).await?;
        let request = body.parse(Request::read_embeddings).await?;
        Ok::<_, Failure>((body, request))
    };
    let (body, request) = match read.await {
        Ok(read) => read,
        Err(failure) => {
            record_refusal(&service, &headers, &failure);
            return reply::refuse(&failure);
        }
    };
    let model = request.model().map(str::to_owned);
    let submitted = submit(&service, &headers, request).await;
    drop(body);
    match submitted {
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
