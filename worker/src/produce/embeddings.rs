//! Answers embeddings requests: computes vectors of inputs.
//!
//! Inputs are answered in their order, a batch at a time, each batch as one chunk. A worker that continues the job starts
//! behind the last input that is stored.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, ready},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::{FutureExt as _, future::BoxFuture};
use rbee_nats::trace::STEPS;
use rbee_schema::{Chunk, EmbeddingsRequest, EncodingFormat, Failure, FailureCode, FinishReason, Usage};
use tokio::task::spawn_blocking;
use tracing::debug;

use crate::{
    contract::Text,
    decide::embedding::{next_batch, truncate, vectors_per_chunk},
    engine_thread::EngineThread,
    job::{Completion, Opening, Producer, Production, Request},
};

/// Answers embeddings requests.
pub(crate) struct EmbeddingsProducer {
    pub(crate) text: Arc<dyn Text>,
    pub(crate) engine: EngineThread,
}

impl Producer for EmbeddingsProducer {
    fn prepare<'a>(&'a self, request: Request<'a>) -> BoxFuture<'a, Result<Box<dyn Production>, Failure>> {
        async move {
            let (text, engine, body) = (Arc::clone(&self.text), self.engine.clone(), request.body.clone());
            let prepare = move || {
                let request = EmbeddingsRequest::from_json(&body)?;
                let encode = |input| {
                    engine.count_preparation();
                    text.encode_input(input)
                };
                let inputs: Result<Vec<Vec<u32>>, Failure> = request.input.iter().map(encode).collect();
                Ok::<_, Failure>((inputs?, request.dimensions, request.encoding_format))
            };
            let panicked = |_| Failure::new(FailureCode::Internal, "the inputs could not be tokenized");
            let (inputs, dimensions, encoding_format) = spawn_blocking(prepare).await.map_err(panicked)??;
            let done = (request.next_index as usize).min(inputs.len());
            let production = EmbeddingsProduction {
                engine: self.engine.clone(),
                inputs,
                dimensions,
                format: encoding_format.unwrap_or_default(),
                done,
                computing: None,
                gathered: VecDeque::new(),
            };
            let prompt_tokens = production.prompt_tokens();
            debug!(target: STEPS, prompt_tokens, inputs = production.inputs.len(), "inputs tokenized");
            let production: Box<dyn Production> = Box::new(production);
            Ok(production)
        }
        .boxed()
    }
}

/// Vectors of one batch of inputs, while the engine computes them.
type Computing = BoxFuture<'static, Result<Vec<Vec<f32>>, Failure>>;

/// The answer to one embeddings request while it is produced.
struct EmbeddingsProduction {
    engine: EngineThread,
    /// Tokens of each input.
    inputs: Vec<Vec<u32>>,
    /// Requested length of the vectors; `None` for the model's own.
    dimensions: Option<u32>,
    format: EncodingFormat,
    /// Number of inputs whose vectors are computed.
    done: usize,
    computing: Option<Computing>,
    /// Vectors that are computed and not yet taken, in chunks.
    gathered: VecDeque<Chunk>,
}

impl Production for EmbeddingsProduction {
    fn opening(&self) -> Opening {
        Opening { prompt_tokens: self.prompt_tokens(), seed: 0 }
    }

    fn start(&mut self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }

    fn poll_advance(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let (engine, left) = (&self.engine, &self.inputs[self.done..]);
        let computing = self.computing.get_or_insert_with(|| {
            let (engine, batch) = (engine.clone(), next_batch(left).to_vec());
            async move { engine.embed(batch).await }.boxed()
        });
        let computed = ready!(computing.poll_unpin(context));
        self.computing = None;
        let vectors = truncated(computed?, self.dimensions)?;
        for vectors in vectors.chunks(vectors_per_chunk(&vectors)) {
            let chunk = self.chunk(vectors);
            self.gathered.push_back(chunk);
            self.done += vectors.len();
        }
        Poll::Ready(Ok(()))
    }

    fn is_full(&self) -> bool {
        !self.gathered.is_empty()
    }

    fn take(&mut self) -> Option<Chunk> {
        self.gathered.pop_front()
    }

    fn completion(&self) -> Option<Completion> {
        let usage = Usage::new(self.prompt_tokens(), 0);
        (self.done == self.inputs.len()).then_some(Completion { reason: FinishReason::Stop, usage })
    }
}

impl EmbeddingsProduction {
    fn prompt_tokens(&self) -> u32 {
        self.inputs.iter().map(|input| u32::try_from(input.len()).unwrap_or(u32::MAX)).fold(0, u32::saturating_add)
    }

    /// The chunk of vectors that begin with that of input `done`.
    fn chunk(&self, vectors: &[Vec<f32>]) -> Chunk {
        let index = u32::try_from(self.done).unwrap_or(u32::MAX);
        match self.format {
            EncodingFormat::Float => Chunk::Embeddings { index, vectors: vectors.to_vec(), base64: Vec::new() },
            EncodingFormat::Base64 => {
                let bytes =
                    |vector: &Vec<f32>| vector.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
                let base64 = vectors.iter().map(|vector| BASE64_STANDARD.encode(bytes(vector))).collect();
                Chunk::Embeddings { index, vectors: Vec::new(), base64 }
            }
        }
    }
}

fn truncated(vectors: Vec<Vec<f32>>, dimensions: Option<u32>) -> Result<Vec<Vec<f32>>, Failure> {
    vectors.into_iter().map(|vector| truncate(vector, dimensions)).collect()
}
