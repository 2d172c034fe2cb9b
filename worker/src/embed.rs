//! A job for vectors of texts, from its request to its last chunk. Step 5 of a job's path, for models that compute embeddings.
//!
//! Inputs are answered in their order, a few at a time, each few as one chunk. A worker that takes the job over goes on behind
//! the last input that is stored.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rbee_nats::trace::STEPS;
use rbee_nats::{Delivery, StoredChunk};
use rbee_schema::{Chunk, EmbeddingsRequest, EncodingFormat, Failure, FailureCode, FinishReason, JobEvent, Usage};
use tokio::{
    task::spawn_blocking,
    time::{Instant, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    decide::embedding::{cut, next_few, stored_inputs},
    job::{Break, Desk, KEPT, Outcome},
    metrics,
    report::Identity,
    writer::Writer,
};

/// What a job wants, ready to be computed.
struct Wanted {
    texts: Vec<Vec<u32>>,
    dimensions: Option<u32>,
    format: EncodingFormat,
}

impl Wanted {
    fn tokens(&self) -> u32 {
        self.texts.iter().map(|text| u32::try_from(text.len()).unwrap_or(u32::MAX)).fold(0, u32::saturating_add)
    }

    fn chunk(&self, first: usize, vectors: Vec<Vec<f32>>) -> Result<Chunk, Failure> {
        let cut = |vector| cut(vector, self.dimensions);
        let vectors = vectors.into_iter().map(cut).collect::<Result<Vec<Vec<f32>>, Failure>>()?;
        let index = u32::try_from(first).unwrap_or(u32::MAX);
        Ok(match self.format {
            EncodingFormat::Float => Chunk::Embeddings { index, vectors, base64: Vec::new() },
            EncodingFormat::Base64 => {
                let bytes =
                    |vector: &Vec<f32>| vector.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
                let base64 = vectors.iter().map(|vector| BASE64_STANDARD.encode(bytes(vector))).collect();
                Chunk::Embeddings { index, vectors: Vec::new(), base64 }
            }
        })
    }
}

impl Desk {
    /// Answers a job of which this is stored.
    pub(crate) async fn embed(
        &self,
        delivery: &Delivery,
        stored: &[StoredChunk],
        writer: &mut Writer,
        cancelled: &CancellationToken,
        taken: Instant,
    ) -> Result<Outcome, Outcome> {
        let wanted = match self.wanted(delivery, stored).await {
            Ok(wanted) => wanted,
            Err(failure) => return self.fail(delivery, writer, failure).await,
        };
        let prompt_tokens = wanted.tokens();
        debug!(target: STEPS, prompt_tokens, inputs = wanted.texts.len(), "inputs read");
        let mut done = stored_inputs(stored.iter().map(|committed| &committed.chunk)).min(wanted.texts.len());
        writer.append(&self.first_of(delivery, stored, prompt_tokens, done)).await?;
        self.tell_started(delivery);
        match self.vectors(delivery, &wanted, &mut done, writer, cancelled).await {
            Ok(()) => {}
            Err(ended) => return self.broken(ended, done, delivery, writer).await,
        }
        let (index, usage) = (u32::try_from(done).unwrap_or(u32::MAX), Usage::new(prompt_tokens, 0));
        writer.append(&Chunk::Done { index, finish_reason: FinishReason::Stop, usage }).await?;
        let duration_ms = u64::try_from(taken.elapsed().as_millis()).unwrap_or(u64::MAX);
        debug!(target: STEPS, inputs = index, "done");
        self.tell(delivery, JobEvent::Finished { finish_reason: FinishReason::Stop, usage, duration_ms });
        Ok(Outcome::Complete("done"))
    }

    /// Reads the request, and makes tokens of its texts on a thread that may be kept.
    async fn wanted(&self, delivery: &Delivery, stored: &[StoredChunk]) -> Result<Wanted, Failure> {
        let request = EmbeddingsRequest::from_json(delivery.body())?;
        self.check_strikes(delivery, stored)?;
        let EmbeddingsRequest { input, dimensions, encoding_format, .. } = request;
        let text = Arc::clone(&self.text);
        let tokenise =
            move || input.iter().map(|input| text.passage(input)).collect::<Result<Vec<Vec<u32>>, Failure>>();
        let panicked = |_| Failure::new(FailureCode::Internal, "the inputs cannot be made into tokens");
        let texts = spawn_blocking(tokenise).await.map_err(panicked)??;
        Ok(Wanted { texts, dimensions, format: encoding_format.unwrap_or_default() })
    }

    fn first_of(&self, delivery: &Delivery, stored: &[StoredChunk], prompt_tokens: u32, done: usize) -> Chunk {
        let Identity { hive, worker, model, .. } = self.identity.clone();
        if stored.is_empty() {
            return Chunk::Started { model, hive, worker, seed: 0, prompt_tokens };
        }
        Chunk::Resumed { hive, worker, attempt: delivery.attempt, index: u32::try_from(done).unwrap_or(u32::MAX) }
    }

    /// Computes what is still to be computed, a few inputs at a time, and appends it.
    async fn vectors(
        &self,
        delivery: &Delivery,
        wanted: &Wanted,
        done: &mut usize,
        writer: &mut Writer,
        cancelled: &CancellationToken,
    ) -> Result<(), Break> {
        let mut keep = interval(delivery.redelivery / KEPT);
        while *done < wanted.texts.len() {
            let computing = self.engine.embed(next_few(&wanted.texts[*done..]).to_vec());
            tokio::pin!(computing);
            let made = loop {
                tokio::select! {
                    biased;
                    () = cancelled.cancelled() => return Err(Break::Cancelled),
                    () = self.stop.cancelled() => return Err(Break::Stopped),
                    made = &mut computing => break made.map_err(Break::Failed)?,
                    _ = keep.tick() => if let Err(error) = delivery.keep_alive().await {
                        warn!(job = %delivery.job, %error, "the job could not be kept");
                    },
                }
            };
            let count = made.len();
            let chunk = wanted.chunk(*done, made).map_err(Break::Failed)?;
            writer.append(&chunk).await.map_err(|_| Break::Fenced)?;
            metrics::embeddings_stored(count);
            *done += count;
        }
        Ok(())
    }
}
