//! One job from its delivery to its last chunk. Step 5 of a job's path.
//!
//! The order of commits is what makes it safe: output first, acknowledgement last. Whoever gets the job again looks at
//! its output before anything else: a complete one is only acknowledged, an incomplete one is continued.

use std::sync::Arc;

use rbee_nats::trace::STEPS;
use rbee_nats::{Bus, Delivery, Outbox};
use rbee_schema::{
    Chunk, DeadJob, Event, Failure, FailureCode, JobEvent, ModelKind, TokenLogprob, TokenScore, WorkerSettings,
};
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, info, info_span, warn};

use crate::{
    contract::Text,
    decide::answer::Answer,
    engine_thread::{EngineThread, Tokens},
    grammar::Grammars,
    metrics,
    prepare::Prepared,
    report::{Identity, Reporter},
    sample::Token,
    writer::{Fenced, Writer},
};

/// So often a running job is kept before it would go to another worker.
pub(crate) const KEPT: u32 = 3;

/// What every slot of a worker shares.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) bus: Bus,
    pub(crate) outbox: Outbox,
    pub(crate) identity: Identity,
    pub(crate) kind: ModelKind,
    pub(crate) text: Arc<dyn Text>,
    pub(crate) grammars: Arc<Grammars>,
    pub(crate) context: u32,
    pub(crate) settings: WorkerSettings,
    pub(crate) engine: EngineThread,
    pub(crate) reporter: Reporter,
    /// Cancelled when this process must end now: jobs go back with what they have.
    pub(crate) stop: CancellationToken,
}

/// What becomes of a delivery.
pub(crate) enum Outcome {
    /// Its output is complete.
    Complete(&'static str),
    /// Another worker is to go on with it.
    GiveBack,
    /// Another worker has gone on with it.
    Lost,
}

impl From<Fenced> for Outcome {
    fn from(_: Fenced) -> Self {
        Self::Lost
    }
}

/// Why the tokens of a job stopped coming before its answer was complete.
pub(crate) enum Break {
    Cancelled,
    Stopped,
    Failed(Failure),
    Fenced,
}

impl Desk {
    /// Works off a delivery, in the trace that it belongs to.
    pub(crate) async fn serve(&self, delivery: Delivery) {
        let Delivery { job, tenant, attempt, trace, .. } = &delivery;
        let Identity { model, worker, .. } = &self.identity;
        let span = info_span!(parent: None, "job", %job, %tenant, attempt, %model, %worker, trace = trace.id());
        rbee_nats::trace::continue_trace(&span, trace);
        self.serve_in_trace(&delivery).instrument(span).await;
    }

    async fn serve_in_trace(&self, delivery: &Delivery) {
        let job = &delivery.job;
        info!("a job was taken");
        let claim = delivery.in_flight();
        let cancelled = self.reporter.take(claim.clone()).await;
        debug!(target: STEPS, "claimed");
        let outcome = self.work(delivery, &cancelled).await.unwrap_or_else(|outcome| outcome);
        let said = match outcome {
            Outcome::Complete(outcome) => {
                metrics::job_settled(outcome);
                delivery.ack().await
            }
            Outcome::GiveBack => {
                metrics::job_settled("returned");
                delivery.nak().await
            }
            Outcome::Lost => {
                warn!(%job, "another worker has gone on with the job");
                Ok(())
            }
        };
        if let Err(error) = said {
            warn!(%job, %error, "the job will be delivered once more");
        }
        self.reporter.settled(claim).await;
    }

    async fn work(&self, delivery: &Delivery, cancelled: &CancellationToken) -> Result<Outcome, Outcome> {
        let taken = Instant::now();
        let stored = match self.bus.stored_output(&delivery.tenant, &delivery.job, 0).await {
            Ok(stored) => stored,
            Err(error) => {
                warn!(job = %delivery.job, %error, "what the job answered so far cannot be read");
                return Err(Outcome::GiveBack);
            }
        };
        if stored.last().is_some_and(|last| last.chunk.is_last()) {
            return Ok(Outcome::Complete("done"));
        }
        let last = stored.last().map_or(0, |committed| committed.sequence);
        let mut writer = Writer::new(&self.bus, &delivery.tenant, &delivery.job, last);
        if self.kind == ModelKind::Embeddings {
            return self.embed(delivery, &stored, &mut writer, cancelled, taken).await;
        }
        let Prepared { mut answer, sequence, first } = match self.prepare(delivery, &stored).await {
            Ok(prepared) => prepared,
            Err(failure) => return self.fail(delivery, &mut writer, failure).await,
        };
        debug!(target: STEPS, prompt_tokens = sequence.prompt.len(), "prompt rendered");
        writer.append(&first).await?;
        self.tell_started(delivery);
        if !answer.is_finished() {
            let tokens = self.engine.admit(sequence, answer.left()).await;
            match self.stream(delivery, &mut answer, tokens, &mut writer, cancelled, taken).await {
                Ok(()) => {}
                Err(ended) => return self.broken(ended, answer.index() as usize, delivery, &mut writer).await,
            }
        }
        let Some((finish_reason, usage)) = answer.outcome() else { return Err(Outcome::GiveBack) };
        writer.append(&Chunk::Done { index: answer.index(), finish_reason, usage }).await?;
        let duration_ms = u64::try_from(taken.elapsed().as_millis()).unwrap_or(u64::MAX);
        debug!(target: STEPS, ?finish_reason, tokens = answer.index(), "done");
        self.tell(delivery, JobEvent::Finished { finish_reason, usage, duration_ms });
        Ok(Outcome::Complete("done"))
    }

    /// What becomes of a job whose answer did not come to its end; `index` is that of the next token or input.
    pub(crate) async fn broken(
        &self,
        ended: Break,
        index: usize,
        delivery: &Delivery,
        writer: &mut Writer,
    ) -> Result<Outcome, Outcome> {
        match ended {
            Break::Fenced => Err(Outcome::Lost),
            Break::Stopped => {
                writer.append(&Chunk::Paused { index: u32::try_from(index).unwrap_or(u32::MAX) }).await?;
                Err(Outcome::GiveBack)
            }
            Break::Failed(failure) => self.fail(delivery, writer, failure).await,
            Break::Cancelled => {
                let failure = Failure::new(FailureCode::Cancelled, "the job was cancelled while it ran");
                self.fail(delivery, writer, failure).await
            }
        }
    }

    /// Appends tokens as they come. While one append is under way the next tokens gather, so that the stream keeps the
    /// pace of the slower of the two.
    async fn stream(
        &self,
        delivery: &Delivery,
        answer: &mut Answer,
        mut tokens: Tokens,
        writer: &mut Writer,
        cancelled: &CancellationToken,
        taken: Instant,
    ) -> Result<(), Break> {
        let mut keep = interval(delivery.redelivery / KEPT);
        let mut is_first = true;
        loop {
            if cancelled.is_cancelled() {
                return Err(Break::Cancelled);
            }
            if self.stop.is_cancelled() {
                return Err(Break::Stopped);
            }
            let chunk = answer.take();
            if chunk.is_none() && answer.is_finished() {
                return Ok(());
            }
            let append = async {
                match &chunk {
                    Some(chunk) => writer.append(chunk).await.map(|()| metrics::tokens_stored(ids(chunk).len())),
                    None => std::future::pending().await,
                }
            };
            tokio::pin!(append);
            loop {
                tokio::select! {
                    biased;
                    appended = &mut append => {
                        appended.map_err(|Fenced| Break::Fenced)?;
                        break;
                    }
                    () = cancelled.cancelled(), if chunk.is_none() => return Err(Break::Cancelled),
                    () = self.stop.cancelled(), if chunk.is_none() => return Err(Break::Stopped),
                    token = tokens.recv(), if !answer.is_finished() && !answer.is_full() => {
                        self.push(answer, token)?;
                        if std::mem::take(&mut is_first) {
                            metrics::first_token(taken.elapsed());
                            debug!(target: STEPS, "first token");
                        }
                        if chunk.is_none() {
                            break;
                        }
                    }
                    _ = keep.tick() => if let Err(error) = delivery.keep_alive().await {
                        warn!(job = %delivery.job, %error, "the job could not be kept");
                    },
                }
            }
        }
    }

    fn push(&self, answer: &mut Answer, token: Option<Result<Token, Failure>>) -> Result<(), Break> {
        match token {
            Some(Ok(token)) => {
                let logprob = self.logprob(&token);
                answer.push(token.id, self.text.piece(token.id), logprob);
            }
            Some(Err(failure)) => return Err(Break::Failed(failure)),
            None => return Err(Break::Failed(Failure::new(FailureCode::Internal, "the engine has stopped"))),
        }
        Ok(())
    }

    /// How probable a token was, in the words of the bus.
    fn logprob(&self, Token { id, logprobs }: &Token) -> Option<TokenLogprob> {
        let scored = |id: u32, logprob: f32| TokenScore::new(id, self.text.piece(id), logprob);
        logprobs.as_ref().map(|logprobs| TokenLogprob {
            token: scored(*id, logprobs.made),
            top: logprobs.top.iter().map(|(id, logprob)| scored(*id, *logprob)).collect(),
        })
    }

    /// Ends a job that cannot be answered.
    pub(crate) async fn fail(
        &self,
        delivery: &Delivery,
        writer: &mut Writer,
        failure: Failure,
    ) -> Result<Outcome, Outcome> {
        info!(job = %delivery.job, %failure, "a job failed");
        if failure.code == FailureCode::TriedTooOften {
            let dead = DeadJob {
                tenant: delivery.tenant.clone(),
                job: delivery.job.clone(),
                attempts: delivery.attempt,
                failure: failure.clone(),
                body: String::from_utf8_lossy(delivery.body()).into_owned(),
            };
            if let Err(error) = self.bus.store_dead_job(&self.identity.model, &dead).await {
                warn!(job = %delivery.job, %error, "a dead job could not be kept");
            }
        }
        writer.append(&Chunk::Error { error: failure.clone() }).await?;
        self.tell(delivery, JobEvent::Failed { failure });
        Ok(Outcome::Complete("failed"))
    }

    pub(crate) fn tell_started(&self, delivery: &Delivery) {
        let Identity { hive, worker, .. } = self.identity.clone();
        self.tell(delivery, JobEvent::Started { hive, worker, attempt: delivery.attempt });
    }

    pub(crate) fn tell(&self, delivery: &Delivery, event: JobEvent) {
        self.outbox.publish(&Event::Job(delivery.tenant.clone(), delivery.job.clone(), event));
    }
}

/// The tokens of a chunk.
pub(crate) fn ids(chunk: &Chunk) -> &[u32] {
    match chunk {
        Chunk::Tokens { ids, .. } => ids,
        Chunk::Started { .. }
        | Chunk::Resumed { .. }
        | Chunk::Paused { .. }
        | Chunk::Embeddings { .. }
        | Chunk::Done { .. }
        | Chunk::Error { .. } => &[],
    }
}
