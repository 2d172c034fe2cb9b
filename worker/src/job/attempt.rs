//! One attempt to answer a job: one delivery of it, with its stored output, its writer, its cancellation and its clock.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use rbee_nats::trace::STEPS;
use rbee_nats::{BodyError, BusError, BusLimits, Delivery, OutputGone, StoredChunk, next_index, partial_end};
use rbee_schema::{Chunk, Event, Failure, FailureCode, FinishReason, JobBlame, JobEvent, KEEP_ALIVES, Usage};
use tokio::time::{Instant, interval, timeout};
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
    decide::{
        deadline::JobDeadlines,
        strikes::{Record, Standing, lost_workers, retry_pause},
    },
    report::{Claim, Identity},
};

/// The end of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The answer is complete and stored.
    Done,
    /// The job cannot be answered, and its failure is stored.
    Failed,
    /// The job was given up, and its failure is stored. A dead letter may need its body.
    GivenUp,
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
            Self::Failed | Self::GivenUp => Some("failed"),
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
    /// Deadlines of the job, or the failure that refuses it.
    deadlines: Result<JobDeadlines, Failure>,
    /// Chunks that earlier attempts have stored, oldest first.
    stored: Vec<StoredChunk>,
    blame: Option<JobBlame>,
    /// Set if chunks of earlier attempts are missing: the answer cannot be continued.
    gone: Option<OutputGone>,
    output: Output,
    /// Tokens that this attempt has computed.
    tokens: u64,
}

/// Everything that earlier attempts have left, and what is known before this one.
pub(super) struct Earlier {
    /// Start of this attempt.
    started: Instant,
    /// Chunks, oldest first.
    stored: Vec<StoredChunk>,
    blame: Option<JobBlame>,
    /// True if a client has cancelled the job.
    is_cancelled: bool,
    /// Deadlines of the job, or the failure that refuses it.
    deadlines: Result<JobDeadlines, Failure>,
}

impl Earlier {
    /// Nothing: that is what a first attempt finds. Should that be wrong, its first append is refused.
    pub(super) async fn nothing(shared: &Shared, delivery: &Delivery) -> Self {
        let (started, deadlines) = (Instant::now(), deadlines(shared, delivery).await);
        Self { started, stored: Vec::new(), blame: None, is_cancelled: false, deadlines }
    }

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
        let deadlines = async { Ok(deadlines(shared, delivery).await) };
        let (stored, blame, is_cancelled, deadlines) = tokio::try_join!(output, blame, cancel, deadlines)?;
        Ok(Self { started, stored, blame, is_cancelled, deadlines })
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
        Earlier { started, stored, blame, is_cancelled, deadlines }: Earlier,
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
        let interrupts = Interrupts { cancelled: claim.cancelled.clone(), stop: pause, deadline: None };
        Self {
            shared,
            delivery,
            claim,
            started,
            interrupts,
            deadlines,
            stored,
            gone: next_index.err(),
            blame,
            output,
            tokens: 0,
        }
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
            return (if self.was_given_up() { Outcome::GivenUp } else { Outcome::Done }, 0);
        }
        let (delivery, begin) = (self.delivery, self.output.next_index);
        let ended = tokio::select! {
            biased;
            ended = self.produce(producer) => ended,
            never = keep_alive(delivery) => match never {},
        };
        let tokens = self.tokens + u64::from(self.output.next_index.saturating_sub(begin));
        let outcome = self.finish(ended).await;
        // The first append finds the output of an earlier job with the same id.
        if outcome == Outcome::Fenced && self.delivery.is_first && self.is_spent().await {
            return (Outcome::Done, tokens);
        }
        (outcome, tokens)
    }

    async fn produce(&mut self, producer: &dyn Producer) -> Result<Completion, Interruption> {
        if self.interrupts.cancelled.is_cancelled() {
            return Err(Interruption::Cancelled);
        }
        self.check_names()?;
        let deadlines = self.deadlines.clone()?;
        self.interrupts.deadline = deadlines.applying(!self.stored.is_empty());
        self.interrupts.check_deadline()?;
        self.check_output()?;
        self.take_turn().await?;
        self.interrupts.deadline = deadlines.applying(true);
        let body = self.body().await?;
        let request = Request {
            job: &self.delivery.job,
            body,
            stored: &self.stored,
            next_index: self.output.next_index,
            started: self.started,
        };
        let mut production = self.interrupts.until_deadline(producer.prepare(request)).await??;
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

    /// The request: the message of the job, or the object that it names. Reading an object can be interrupted and takes a limited
    /// time.
    async fn body(&self) -> Result<Bytes, Interruption> {
        let Some(stored) = self.delivery.stored_body()? else { return Ok(self.delivery.body().clone()) };
        // Meanwhile the bus keeps the job from making progress, and not the engine.
        let _blocked = self.shared.blocked.enter();
        let job = &self.delivery.job;
        tokio::select! {
            biased;
            interruption = self.interrupts.any() => Err(match interruption {
                Interruption::Stopped => Interruption::Postponed,
                other => other,
            }),
            fetched = timeout(self.shared.settings.body, self.shared.bus.fetch_body(&stored)) => match fetched {
                Ok(Ok(body)) => Ok(body),
                Ok(Err(BodyError::Failed(failure))) => Err(failure.into()),
                Ok(Err(BodyError::Bus(error))) => {
                    warn!(%job, %error, "failed to read the body of the job; the job returns to the queue");
                    Err(Interruption::Unreadable)
                }
                Err(_) => {
                    let limit = self.shared.settings.body;
                    warn!(%job, ?limit, "the body of the job was not read in time; the job returns to the queue");
                    Err(Interruption::Unreadable)
                }
            }
        }
    }

    /// True if the stored output says that the job was given up.
    fn was_given_up(&self) -> bool {
        let last = self.stored.last().map(|last| &last.chunk);
        matches!(last, Some(Chunk::Error { error }) if error.code == FailureCode::TriedTooOften)
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
            Err(Interruption::Expired(missed)) => {
                match partial_end(self.stored.iter().map(|StoredChunk { chunk, .. }| chunk)) {
                    Some((_, usage)) => self.complete(Completion { reason: FinishReason::Deadline, usage }).await,
                    None => return self.fail(missed.failure()).await,
                }
            }
            Err(Interruption::Unreadable) => {
                return Outcome::Returned(retry_pause(self.delivery.attempt, &self.shared.settings));
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
        let is_given_up = failure.code == FailureCode::TriedTooOften;
        if is_given_up {
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
        let (usage, submitted) = (self.usage(), Some(submitted(self.shared, self.delivery)));
        self.publish(JobEvent::Failed { failure, usage, submitted });
        if is_given_up { Outcome::GivenUp } else { Outcome::Failed }
    }

    /// Tokens that the job has used, if this attempt has begun it.
    fn usage(&self) -> Option<Usage> {
        let prompt_tokens = u32::try_from(self.tokens).unwrap_or(u32::MAX);
        (prompt_tokens > 0).then(|| Usage::new(prompt_tokens, self.output.next_index))
    }

    fn publish(&self, event: JobEvent) {
        let Delivery { tenant, job, .. } = self.delivery;
        self.shared.outbox.publish(&Event::Job(tenant.clone(), job.clone(), event));
    }
}

/// Deadlines of a delivered job. If the clock of the server cannot be read, they count from now.
///
/// # Errors
/// A header of the job is invalid.
async fn deadlines(shared: &Shared, delivery: &Delivery) -> Result<JobDeadlines, Failure> {
    let stated = delivery.deadlines()?;
    let reading = shared.clock.reading(shared.bus.settings().request).await;
    let now = std::time::Instant::now();
    let limits = reading.map_or_else(|| BusLimits::default().deadlines(), |reading| reading.limits);
    let age = reading.map_or(Duration::ZERO, |reading| reading.age(delivery.stored, now));
    Ok(JobDeadlines::new(stated.or(limits.of(delivery.class)), age, now))
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
