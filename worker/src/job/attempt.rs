//! One attempt to answer a job: one delivery of it, with its stored output, its writer, its cancellation and its clock.

use std::{convert::Infallible, time::Duration};

use rbee_nats::trace::STEPS;
use rbee_nats::{BusError, Delivery, OutputGone, StoredChunk, next_index};
use rbee_schema::{Chunk, Event, Failure, FailureCode, JobBlame, JobEvent, KEEP_ALIVES};
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    dead_letter::{self, GivenUp, submitted},
    producer::{Completion, Opening, Producer, Request},
    shared::Shared,
    stream::{Append as _, Interruption, Interrupts, Output, Solitude, stream},
    writer::{Refused, Writer},
};
use crate::{
    decide::strikes::{Record, Standing, lost_workers},
    report::{Claim, Identity},
};

/// The end of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The answer is complete and stored.
    Done,
    /// The job cannot be answered, and its failure is stored.
    Failed,
    /// The answer is incomplete. The job returns to the queue, where it waits for this long before it is delivered again.
    Returned(Duration),
    /// Another worker has already continued the answer.
    Fenced,
}

impl Outcome {
    /// Value of the metric label `outcome`. `None` if the job was not settled by this attempt.
    pub(super) fn label(self) -> Option<&'static str> {
        match self {
            Self::Done => Some("done"),
            Self::Failed => Some("failed"),
            Self::Returned(_) => Some("returned"),
            Self::Fenced => None,
        }
    }
}

/// One attempt to answer a job.
pub(super) struct Attempt<'a> {
    shared: &'a Shared,
    delivery: &'a Delivery,
    claim: &'a Claim,
    started: Instant,
    interrupts: Interrupts,
    /// Chunks that earlier attempts have stored, oldest first.
    stored: Vec<StoredChunk>,
    blame: Option<JobBlame>,
    /// Set if chunks of earlier attempts are missing: the answer cannot be continued.
    gone: Option<OutputGone>,
    output: Output,
    /// Tokens that this attempt has computed.
    tokens: u64,
}

/// Everything that earlier attempts have left.
pub(super) struct Earlier {
    /// Start of this attempt.
    started: Instant,
    /// Chunks, oldest first.
    stored: Vec<StoredChunk>,
    blame: Option<JobBlame>,
    /// True if a client has cancelled the job.
    is_cancelled: bool,
}

impl Earlier {
    /// Reads what earlier attempts of a job have left.
    ///
    /// # Errors
    /// If the stored output, the blame or the cancellation of the job cannot be read.
    pub(super) async fn read(shared: &Shared, delivery: &Delivery) -> Result<Self, BusError> {
        let started = Instant::now();
        let Delivery { tenant, job, attempt, .. } = delivery;
        let blame = async {
            // A job that is delivered for the first time has ended no worker.
            if *attempt > 1 { shared.bus.blame_of(tenant, job).await } else { Ok(None) }
        };
        let (output, cancel) = (shared.bus.stored_output(tenant, job, 0), shared.bus.is_cancelled(delivery));
        let (stored, blame, is_cancelled) = tokio::try_join!(output, blame, cancel)?;
        Ok(Self { started, stored, blame, is_cancelled })
    }
}

impl<'a> Attempt<'a> {
    /// An attempt that continues what earlier ones have stored. `pause` is cancelled when the job must return to the
    /// queue.
    pub(super) fn new(
        shared: &'a Shared,
        delivery: &'a Delivery,
        claim: &'a Claim,
        pause: CancellationToken,
        Earlier { started, stored, blame, is_cancelled }: Earlier,
    ) -> Self {
        if is_cancelled {
            claim.cancelled.cancel();
        }
        let last_sequence = stored.last().map_or(0, |last| last.sequence);
        let next_index = stored.iter().try_fold(0, |index, stored| next_index(index, &stored.chunk));
        let output = Output {
            writer: Writer::new(shared, &delivery.tenant, &delivery.job, last_sequence),
            next_index: next_index.unwrap_or_default(),
            solitude: None,
        };
        let interrupts = Interrupts { cancelled: claim.cancelled.clone(), stop: pause };
        Self { shared, delivery, claim, started, interrupts, stored, gone: next_index.err(), blame, output, tokens: 0 }
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
        self.take_turn().await?;
        let request = Request {
            job: &self.delivery.job,
            body: self.delivery.body().clone(),
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

    /// Waits until the job may run: together with others, or alone if it is blamed for the end of a worker. Refuses a job that
    /// has ended too many.
    async fn take_turn(&mut self) -> Result<(), Interruption> {
        match self.record().standing(&self.shared.settings) {
            Standing::GivenUp => Err(self.given_up().into()),
            // It runs already.
            Standing::Trusted if self.delivery.attempt == 1 => Ok(()),
            Standing::Trusted if self.claim.join().await => Ok(()),
            Standing::Trusted => Err(Interruption::Postponed),
            Standing::OnProbation(probation) => {
                tokio::select! {
                    biased;
                    interruption = self.interrupts.any() => return Err(match interruption {
                        Interruption::Stopped => Interruption::Postponed,
                        other => other,
                    }),
                    () = self.claim.run_alone() => {}
                }
                info!(job = %self.delivery.job, "the job runs alone: a worker has ended while it ran");
                self.output.solitude = Some(Solitude { claim: self.claim.clone(), probation, since: Instant::now() });
                Ok(())
            }
        }
    }

    fn record(&self) -> Record<'_> {
        Record {
            blame: self.blame.as_ref(),
            is_begun: !self.stored.is_empty(),
            made: self.output.next_index,
            made_before_blame: self.blame.as_ref().map_or(0, |blame| made_until(&self.stored, blame.last_chunk)),
            lost: lost_workers(self.stored.iter().map(|stored| &stored.chunk)),
            attempt: self.delivery.attempt,
        }
    }

    /// Failure of a job that has ended too many workers.
    fn given_up(&self) -> Failure {
        let Record { lost, attempt, .. } = self.record();
        let why = match &self.blame {
            Some(JobBlame { hive, worker, class, code, signal, company: 0, alone, together, .. }) => {
                let how = match (code, signal) {
                    (_, Some(signal)) => format!("{class}, signal {signal}"),
                    (Some(code), None) => format!("{class}, exit code {code}"),
                    (None, None) => class.to_string(),
                };
                let ends = alone + together;
                format!(
                    "{ends} workers ended while they ran the job, {alone} of them while it ran alone (last worker {worker} of \
                     hive {hive}: {how})"
                )
            }
            _ => format!("the job was delivered {attempt} times, and {lost} workers ended while they ran it"),
        };
        Failure::new(
            FailureCode::TriedTooOften,
            format!("{why}: it was given up, and its request is in the dead-letter stream"),
        )
    }

    /// Appends the first chunk of this attempt, and publishes that the job has started.
    async fn begin(&mut self, opening: Opening) -> Result<(), Refused> {
        let Identity { hive, worker, model, .. } = self.shared.identity.clone();
        let (attempt, index) = (self.delivery.attempt, self.output.next_index);
        let started = (hive.clone(), worker.clone());
        let first = if self.stored.is_empty() {
            let Opening { prompt_tokens, seed } = opening;
            Chunk::Started { model, hive, worker, seed, prompt_tokens }
        } else {
            Chunk::Resumed { hive, worker, attempt, index }
        };
        self.output.append(&first).await?;
        let (hive, worker) = started;
        let submitted = Some(submitted(self.shared, self.delivery));
        self.publish(JobEvent::Started { hive, worker, attempt, index, submitted });
        Ok(())
    }

    /// Stores and publishes the end of the attempt.
    async fn finish(&mut self, ended: Result<Completion, Interruption>) -> Outcome {
        let stored = match ended {
            Ok(completion) => self.complete(completion).await,
            Err(Interruption::Stopped) => {
                let paused = self.output.append(&Chunk::Paused { index: self.output.next_index }).await;
                paused.map(|()| self.paused())
            }
            Err(Interruption::Postponed) => return Outcome::Returned(Duration::ZERO),
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

    /// The job has paused, and returns to the queue.
    fn paused(&self) -> Outcome {
        let Identity { hive, worker, .. } = self.shared.identity.clone();
        let why = if self.shared.stop.is_cancelled() {
            "its worker stops"
        } else if self.claim.is_other_alone() {
            "another job must run alone, because a worker has ended while it ran"
        } else {
            "an interactive job needs its slot"
        };
        self.publish(JobEvent::Paused { hive, worker, index: self.output.next_index, why: why.to_owned() });
        Outcome::Returned(Duration::ZERO)
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
            let Self { delivery, stored, blame, .. } = &*self;
            let given_up = GivenUp { delivery, failure: &failure, blame: blame.as_ref(), stored };
            dead_letter::store(self.shared, given_up).await;
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
        let submitted = Some(submitted(self.shared, self.delivery));
        self.publish(JobEvent::Failed { failure, submitted });
        Outcome::Failed
    }

    fn publish(&self, event: JobEvent) {
        let Delivery { tenant, job, .. } = self.delivery;
        self.shared.outbox.publish(&Event::Job(tenant.clone(), job.clone(), event));
    }
}

/// Number of tokens or inputs that were stored up to the chunk with this sequence.
fn made_until(stored: &[StoredChunk], sequence: u64) -> u32 {
    let before = stored.iter().take_while(|stored| stored.sequence <= sequence);
    before.map(|stored| stored.chunk.count()).fold(0, u32::saturating_add)
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
