//! Answers chats: tokens from the engine become text, reasoning and tool calls.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{FutureExt as _, future::BoxFuture};
use rbee_nats::trace::STEPS;
use rbee_schema::{Chunk, Failure, FailureCode, TokenLogprob, TokenScore};
use tokio::{task::spawn_blocking, time::Instant};
use tracing::debug;

use super::text_request::TextModel;
use crate::{
    contract::{Sequence, Text},
    decide::answer::Answer,
    engine_thread::{EngineThread, Tokens},
    job::{Completion, Opening, Producer, Production, Request},
    metrics,
    sample::Token,
};

/// Answers chats.
pub(crate) struct TextProducer {
    pub(crate) model: TextModel,
    pub(crate) engine: EngineThread,
}

impl Producer for TextProducer {
    fn prepare<'a>(&'a self, request: Request<'a>) -> BoxFuture<'a, Result<Box<dyn Production>, Failure>> {
        async move {
            let (model, job) = (self.model.clone(), request.job.clone());
            let (body, stored) = (request.body.clone(), request.stored.to_vec());
            // On a thread that may block: a large chat takes a second, and heartbeats must go on.
            let prepared = spawn_blocking(move || model.prepare(&job, &body, &stored)).await;
            let panicked = |_| Failure::new(FailureCode::Internal, "the request could not be prepared");
            let (answer, sequence) = prepared.map_err(panicked)??;
            debug!(target: STEPS, prompt_tokens = sequence.prompt.len(), "prompt rendered");
            let production: Box<dyn Production> = Box::new(TextProduction {
                text: Arc::clone(&self.model.text),
                engine: self.engine.clone(),
                seed: sequence.sampling.seed,
                answer,
                sequence: Some(sequence),
                tokens: None,
                without_token_since: Some(request.started),
            });
            Ok(production)
        }
        .boxed()
    }
}

/// The answer to one chat while it is produced.
struct TextProduction {
    text: Arc<dyn Text>,
    engine: EngineThread,
    seed: u64,
    answer: Answer,
    /// The sequence, until the engine admits it.
    sequence: Option<Sequence>,
    /// Tokens of the admitted sequence.
    tokens: Option<Tokens>,
    /// Start of the attempt, until its first token has come.
    without_token_since: Option<Instant>,
}

impl Production for TextProduction {
    fn opening(&self) -> Opening {
        Opening { prompt_tokens: self.answer.prompt_tokens(), seed: self.seed }
    }

    fn start(&mut self) -> BoxFuture<'_, ()> {
        async {
            if let Some(sequence) = self.sequence.take() {
                self.tokens = Some(self.engine.admit(sequence, self.answer.left()).await);
            }
        }
        .boxed()
    }

    fn poll_advance(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let token = match &mut self.tokens {
            Some(tokens) => ready!(tokens.poll_recv(context)),
            None => None,
        };
        // Without a token the engine has panicked, and the process ends. The job must not fail before that.
        let Some(token) = token else { return Poll::Pending };
        let token = token?;
        self.answer.push(token.id, self.text.piece(token.id), self.logprob(&token));
        if let Some(since) = self.without_token_since.take() {
            metrics::first_token(since.elapsed());
            debug!(target: STEPS, "first token");
        }
        Poll::Ready(Ok(()))
    }

    fn is_full(&self) -> bool {
        self.answer.is_full()
    }

    fn take(&mut self) -> Option<Chunk> {
        self.answer.take()
    }

    fn cut(&mut self) -> bool {
        if self.answer.index() == 0 && !self.answer.is_finished() {
            return false;
        }
        // The engine releases the sequence.
        self.tokens = None;
        self.answer.cut();
        true
    }

    fn completion(&self) -> Option<Completion> {
        self.answer.outcome().map(|(reason, usage)| Completion { reason, usage })
    }
}

impl TextProduction {
    /// Log-probabilities of a token, as chunks report them.
    fn logprob(&self, Token { id, logprobs }: &Token) -> Option<TokenLogprob> {
        let scored = |id: u32, logprob: f32| TokenScore::new(id, self.text.piece(id), logprob);
        logprobs.as_ref().map(|logprobs| TokenLogprob {
            token: scored(*id, logprobs.chosen),
            top: logprobs.top.iter().map(|(id, logprob)| scored(*id, *logprob)).collect(),
        })
    }
}
