//! `/v1/chat/completions`: a chat that is answered whole or as a stream of events. Step 1 of a job's path.
//!
//! A request for several choices (`n`) becomes as many jobs, each with a seed of its own. They run side by side and share
//! their prompt in the prompt cache.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    Json,
    extract::{Request, State},
    response::{
        IntoResponse as _, Response,
        sse::{KeepAlive, Sse},
    },
};
use futures::future::try_join_all;
use rbee_schema::{Chunk, Failure, FailureCode, Usage};

use super::{
    answer::{Answer, Submitted, record_refusal, submit},
    body::RequestBody,
    openai::{ChatCompletionRequest, Choice, CompletionId, Message, several_answers},
    reply,
    service::Service,
    stream::events,
};

pub(super) async fn complete(State(service): State<Service>, request: Request) -> Response {
    let headers = request.headers().clone();
    let read = async {
        let body = RequestBody::read(&service, request).await?;
        let request = body.parse(ChatCompletionRequest::read).await?;
        Ok::<_, Failure>((body, request))
    };
    let (body, mut request) = match read.await {
        Ok(read) => read,
        Err(failure) => {
            record_refusal(&service, &headers, &failure);
            return reply::refuse(&failure);
        }
    };
    let choices = request.take_choices();
    let model = choices.first().and_then(|choice| choice.model()).map(str::to_owned);
    let submitted = try_join_all(choices.into_iter().map(|choice| submit(&service, &headers, choice))).await;
    drop(body);
    match submitted {
        Ok(submitted) => answer(&service, &request, submitted).await,
        Err(failure) => reply::refuse_job(&service.bus, model.as_deref(), &failure).await,
    }
}

async fn answer(service: &Service, request: &ChatCompletionRequest, submitted: Vec<Submitted>) -> Response {
    let Some(Submitted { job, model, .. }) = submitted.first() else {
        return reply::refuse(&Failure::new(FailureCode::Internal, "the request has become no job"));
    };
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let id = CompletionId { job: job.clone(), model: model.clone(), created: since_1970.as_secs() };
    let answers: Vec<Answer> = submitted.into_iter().map(|submitted| submitted.answer).collect();
    if request.is_streamed() {
        let events = events(id, answers, request.includes_usage());
        Sse::new(events).keep_alive(KeepAlive::new().interval(service.keep_alive)).into_response()
    } else {
        whole(&id, answers).await
    }
}

async fn whole(id: &CompletionId, answers: Vec<Answer>) -> Response {
    let choices = answers.into_iter().enumerate().map(|(index, answer)| choice(index, answer));
    match try_join_all(choices).await {
        Ok(choices) => {
            let usage = several_answers(choices.iter().map(|(_, usage)| *usage));
            let choices = choices.into_iter().map(|(choice, _)| choice).collect();
            Json(id.completion(choices, usage)).into_response()
        }
        Err(failure) => reply::refuse(&failure),
    }
}

/// Reads one answer to its end.
async fn choice(index: usize, mut answer: Answer) -> Result<(Choice, Usage), Failure> {
    let mut message = Message::default();
    let mut scored = Vec::new();
    loop {
        match answer.next().await {
            Chunk::Started { .. } | Chunk::Resumed { .. } | Chunk::Paused { .. } | Chunk::Embeddings { .. } => {}
            Chunk::Tokens { text, reasoning, calls, logprobs, .. } => {
                message.add(&text, &reasoning, calls);
                scored.extend(logprobs);
            }
            Chunk::Done { finish_reason, usage, .. } => {
                return Ok((Choice::new(index, message, &scored, finish_reason), usage));
            }
            Chunk::Error { error } => return Err(error),
        }
    }
}
