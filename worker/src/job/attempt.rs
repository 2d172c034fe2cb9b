//! One attempt to answer a job: one delivery of it, with its stored output, its writer, its cancellation and its clock.

use std::convert::Infallible;

use rbee_nats::trace::STEPS;
use rbee_nats::{BusError, Delivery, OutputGone, StoredChunk, next_index};
use rbee_schema::{Chunk, DeadJob, Event, Failure, FailureCode, JobEvent};
use tokio::time::{Instant, interval};
use tracing::{debug, info, warn};

use super::{
    producer::{Completion, Opening, Producer, Request},
    shared::Shared,
    stream::{Append as _, Interruption, Interrupts, Output, stream},
    writer::{Refused, Writer},
};
use crate::{
    decide::strikes::{is_struck_out, lost_workers},
    report::Identity,
};

/// Keep-alives that are sent per redelivery timeout while a job runs. Three, so that two may be lost.
const KEEP_ALIVES: u32 = 3;

/// The end of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The answer is complete and stored.
    Done,
    /// The job cannot be answered, and its failure is stored.
    Failed,
    /// The answer is incomplete, and another worker is to continue it.
    Returned,
    /// Another worker has already continued the answer.
    Fenced,
}

impl Outcome {
    /// Value of the metric label `outcome`. `None` if the job was not settled by this attempt.
    pub(super) fn label(self) -> Option<&'static str> {
        match self {
            Self::Done => Some("done"),
            Self::Failed => Some("failed"),
            Self::Returned => Some("returned"),
            Self::Fenced => None,
        }
    }
}

/// One attempt to answer a job.
pub(super) struct Attempt<'a> {
    shared: &'a Shared,
    delivery: &'a Delivery,
    started: Instant,
    interrupts: Interrupts,
    /// Chunks that earlier attempts have stored, oldest first.
    stored: Vec<StoredChunk>,
    /// Set if chunks of earlier attempts are missing: the answer cannot be continued.
    gone: Option<OutputGone>,
    output: Output,
    /// Tokens that this attempt has computed.
    tokens: u64,
}

impl<'a> Attempt<'a> {
    /// Reads the chunks that earlier attempts have stored.
    ///
    /// # Errors
    /// If the stored output cannot be read.
    pub(super) async fn open(
        shared: &'a Shared,
        delivery: &'a Delivery,
        interrupts: Interrupts,
    ) -> Result<Self, BusError> {
        let started = Instant::now();
        let output = shared.bus.stored_output(&delivery.tenant, &delivery.job, 0);
        let (stored, is_cancelled) = tokio::try_join!(output, shared.bus.is_cancelled(delivery))?;
        if is_cancelled {
            interrupts.cancelled.cancel();
        }
        let last_sequence = stored.last().map_or(0, |last| last.sequence);
        let next_index = stored.iter().try_fold(0, |index, stored| next_index(index, &stored.chunk));
        let output = Output {
            writer: Writer::new(&shared.bus, &delivery.tenant, &delivery.job, last_sequence),
            next_index: next_index.unwrap_or_default(),
        };
        Ok(Self { shared, delivery, started, interrupts, stored, gone: next_index.err(), output, tokens: 0 })
    }

    /// Answers the job, or continues its answer. Keep-alives are sent meanwhile. Returns the outcome and the number of tokens
    /// that were computed.
    pub(super) async fn answer(mut self, producer: &dyn Producer) -> (Outcome, u64) {
        let is_complete = self.stored.last().is_some_and(|last| last.chunk.is_last());
        // A first attempt finds output only if the id of the job was used before.
        if (is_complete || self.delivery.attempt == 1 && !self.stored.is_empty()) && self.is_spent().await {
            return (Outcome::Done, 0);
        }
        if is_complete {
            return (Outcome::Done, 0);
        }
        let (delivery, begin) = (self.delivery, self.output.next_index);
        let ended = tokio::select! {
            biased;
            ended = self.produce(producer) => ended,
            never = keep_alive(delivery) => match never {},
        };
        let tokens = self.tokens + u64::from(self.output.next_index.saturating_sub(begin));
        (self.finish(ended).await, tokens)
    }

    async fn produce(&mut self, producer: &dyn Producer) -> Result<Completion, Interruption> {
        if self.interrupts.cancelled.is_cancelled() {
            return Err(Interruption::Cancelled);
        }
        self.check_names()?;
        self.check_output()?;
        self.check_strikes()?;
        let request = Request {
            job: &self.delivery.job,
            body: self.delivery.body(),
            stored: &self.stored,
            next_index: self.output.next_index,
            started: self.started,
        };
        let mut production = producer.prepare(request).await?;
        let opening = production.opening();
        self.tokens = u64::from(opening.prompt_tokens);
        self.begin(opening).await?;
        if production.completion().is_none() {
            production.start().await;
        }
        stream(production.as_mut(), &mut self.output, &self.interrupts).await
    }

    /// True if the stored output is that of an earlier job with the same id. The client is told.
    async fn is_spent(&self) -> bool {
        let (bus, Delivery { tenant, job, sequence, stored, .. }) = (&self.shared.bus, self.delivery);
        let reported = match bus.last_chunk(tenant, job).await {
            Ok(Some(last)) if last.stored < *stored => bus.report_spent(tenant, job, *sequence).await.map(|()| true),
            Ok(_) => Ok(false),
            Err(error) => Err(error),
        };
        reported.unwrap_or_else(|error| {
            warn!(%job, %error, "failed to check whether the id of the job was used before");
            false
        })
    }

    /// Refuses a job with an invalid name.
    fn check_names(&self) -> Result<(), Failure> {
        self.delivery.misnamed.as_ref().map_or(Ok(()), |misnamed| Err(misnamed.failure.clone()))
    }

    /// Refuses to continue an answer of which chunks are missing. It would repeat them, or continue another text.
    fn check_output(&self) -> Result<(), Failure> {
        self.gone.map_or(Ok(()), |gone| {
            let message = format!("the answer cannot be continued, because {gone}: submit the job again");
            Err(Failure::new(FailureCode::OutputGone, message))
        })
    }

    /// Refuses a job that has ended too many workers.
    fn check_strikes(&self) -> Result<(), Failure> {
        let (attempt, settings) = (self.delivery.attempt, &self.shared.settings);
        let lost = lost_workers(self.stored.iter().map(|stored| &stored.chunk));
        if is_struck_out(lost, !self.stored.is_empty(), attempt, settings) {
            return Err(Failure::new(
                FailureCode::TriedTooOften,
                format!(
                    "the job was delivered {attempt} times, and {lost} workers ended while they ran it: it was given up, \
                     and its request is in the dead-letter stream"
                ),
            ));
        }
        Ok(())
    }

    /// Appends the first chunk of this attempt, and publishes that the job has started.
    async fn begin(&mut self, opening: Opening) -> Result<(), Refused> {
        let Identity { hive, worker, model, .. } = self.shared.identity.clone();
        let (attempt, started) = (self.delivery.attempt, (hive.clone(), worker.clone()));
        let first = if self.stored.is_empty() {
            let Opening { prompt_tokens, seed } = opening;
            Chunk::Started { model, hive, worker, seed, prompt_tokens }
        } else {
            Chunk::Resumed { hive, worker, attempt, index: self.output.next_index }
        };
        self.output.append(&first).await?;
        let (hive, worker) = started;
        self.publish(JobEvent::Started { hive, worker, attempt });
        Ok(())
    }

    /// Stores and publishes the end of the attempt.
    async fn finish(&mut self, ended: Result<Completion, Interruption>) -> Outcome {
        let stored = match ended {
            Ok(completion) => self.complete(completion).await,
            Err(Interruption::Stopped) => {
                let paused = self.output.append(&Chunk::Paused { index: self.output.next_index }).await;
                paused.map(|()| Outcome::Returned)
            }
            Err(Interruption::Failed(failure)) => return self.fail(failure).await,
            Err(Interruption::Cancelled) => {
                let failure = Failure::new(FailureCode::Cancelled, "the job was cancelled while it ran");
                return self.fail(failure).await;
            }
            Err(Interruption::Fenced) => Err(Refused::Fenced),
        };
        match stored {
            Ok(outcome) => outcome,
            Err(Refused::Fenced) => Outcome::Fenced,
            Err(Refused::Failed(failure)) => self.fail(failure).await,
        }
    }

    async fn complete(&mut self, Completion { reason: finish_reason, usage }: Completion) -> Result<Outcome, Refused> {
        let index = self.output.next_index;
        self.output.append(&Chunk::Done { index, finish_reason, usage }).await?;
        debug!(target: STEPS, ?finish_reason, index, "done");
        let duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.publish(JobEvent::Finished { finish_reason, usage, duration_ms });
        Ok(Outcome::Done)
    }

    /// Ends a job that cannot be answered. A failure that cannot be stored is published unstored, for those who listen.
    async fn fail(&mut self, failure: Failure) -> Outcome {
        info!(job = %self.delivery.job, %failure, "the job failed");
        if failure.code == FailureCode::TriedTooOften {
            self.dead_letter(&failure).await;
        }
        let error = Chunk::Error { error: failure.clone() };
        match self.output.append(&error).await {
            Ok(()) => {}
            Err(Refused::Fenced) => return Outcome::Fenced,
            Err(Refused::Failed(unstored)) => {
                let Delivery { tenant, job, .. } = self.delivery;
                warn!(%job, %unstored, "the failure of the job could not be stored");
                if let Err(error) = self.shared.bus.publish_unstored(tenant, job, &error).await {
                    warn!(%job, %error, "the failure of the job could not be published");
                }
            }
        }
        if let Some(misnamed) = &self.delivery.misnamed
            && let Err(error) = self.shared.bus.report_misnamed(misnamed).await
        {
            warn!(job = %self.delivery.job, %error, "failed to tell the client of a misnamed job");
        }
        self.publish(JobEvent::Failed { failure });
        Outcome::Failed
    }

    /// Stores a job that is given up in the dead-letter stream, for a person to inspect.
    async fn dead_letter(&self, failure: &Failure) {
        let Delivery { tenant, job, attempt, .. } = self.delivery;
        let dead = DeadJob {
            tenant: tenant.clone(),
            job: job.clone(),
            attempts: *attempt,
            failure: failure.clone(),
            body: String::from_utf8_lossy(self.delivery.body()).into_owned(),
        };
        if let Err(error) = self.shared.bus.store_dead_job(&self.shared.identity.model, &dead).await {
            warn!(%job, %error, "failed to store the job in the dead-letter stream");
        }
    }

    fn publish(&self, event: JobEvent) {
        let Delivery { tenant, job, .. } = self.delivery;
        self.shared.outbox.publish(&Event::Job(tenant.clone(), job.clone(), event));
    }
}

/// Extends the ack deadline of a running job for as long as it is polled.
async fn keep_alive(delivery: &Delivery) -> Infallible {
    let mut due = interval(delivery.redelivery / KEEP_ALIVES);
    loop {
        due.tick().await;
        if let Err(error) = delivery.keep_alive().await {
            warn!(job = %delivery.job, %error, "failed to extend the ack deadline of the job");
        }
    }
}
