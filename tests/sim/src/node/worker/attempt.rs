//! One attempt to answer a job, as `worker/src/job/runner.rs` and `attempt.rs` make it.

use std::{
    pin::pin,
    rc::Rc,
    time::{Duration, Instant},
};

use futures::future::{Either, select};
use rbee_nats::next_index;
use rbee_schema::{Chunk, Failure, FailureCode, FinishReason, JobBlame, KEEP_ALIVES, Usage};
use rbee_worker::decide::strikes::{Probation, Record, Standing, lost_workers, retry_pause};

use super::{
    delivery::Delivery,
    reporter::{Claim, Reporter},
    shared::{Identity, Shared},
    writer::{Refused, Writer, stored_output},
};
use crate::{
    broker::{Answer, Op},
    check::WorkerEnd,
    network::Away,
    node::child::Exit,
    runtime::Signal,
    words::{Body, Written, blame_subject, cancel_subject, published_subject},
};

/// Largest number of tokens of a chunk.
const MOST: u32 = 64;

/// Signal of a process that a job ends: SIGSEGV.
const SIGSEGV: i32 = 11;

/// The end of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Settled,
    Returned(Duration),
    Fenced,
}

#[derive(Debug)]
enum Interruption {
    Cancelled,
    Stopped,
    Postponed,
    Failed(Failure),
    Fenced,
}

impl From<Refused> for Interruption {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Fenced => Self::Fenced,
            Refused::Failed(failure) => Self::Failed(failure),
        }
    }
}

/// Everything that earlier attempts have left.
#[derive(Debug, Default)]
struct Earlier {
    stored: Vec<(u64, Written)>,
    blame: Option<Rc<JobBlame>>,
    is_cancelled: bool,
}

struct Solitude {
    claim: Claim,
    probation: Probation,
    since: Instant,
}

/// Runs the jobs of a worker.
#[derive(Clone)]
pub(super) struct JobRunner {
    pub(super) shared: Shared,
    pub(super) reporter: Reporter,
}

impl JobRunner {
    /// Runs a delivered job to its end. Returns the number of tokens that were computed, and true if the job has returned to the
    /// queue.
    pub(super) async fn run(&self, delivery: Delivery, pause: Signal) -> (u64, bool) {
        let Some(claim) = self.claim(&delivery, &pause) else {
            delivery.nak(Duration::ZERO);
            return (0, true);
        };
        let (outcome, tokens) = match self.read(&delivery).await {
            Ok(earlier) => {
                let mut attempt = Attempt::new(self, &delivery, &claim, pause, earlier);
                let outcome = attempt.answer().await;
                (outcome, u64::from(attempt.next_index - attempt.begin))
            }
            Err(Away) => (Outcome::Returned(retry_pause(delivery.attempt, &self.shared.site.settings.worker)), 0),
        };
        self.shared.child.process().log(|| format!("attempt at {}: {outcome:?}", delivery.job.key.1));
        match outcome {
            Outcome::Settled => {
                let _ = delivery.ack().await;
            }
            Outcome::Returned(pause) => delivery.nak(pause),
            Outcome::Fenced => {}
        }
        delivery.ended();
        claim.release();
        (tokens, matches!(outcome, Outcome::Returned(_)))
    }

    fn claim(&self, delivery: &Delivery, pause: &Signal) -> Option<Claim> {
        if delivery.attempt > 1 {
            return Some(self.reporter.claim(delivery.in_flight(), pause.clone()));
        }
        self.reporter.claim_together(delivery.in_flight(), pause.clone())
    }

    async fn read(&self, delivery: &Delivery) -> Result<Earlier, Away> {
        let (shared, key) = (&self.shared, &delivery.job.key);
        let is_first = delivery.attempt == 1;
        let reads = !is_first || !shared.site.settings.appends_first;
        let stored = if reads { stored_output(shared, key, 1).await? } else { Vec::new() };
        let blame = if is_first { None } else { self.blame(delivery).await? };
        let is_cancelled = !shared.site.settings.flaws.ignores_stored_cancels && self.is_cancelled(delivery).await?;
        Ok(Earlier { stored, blame, is_cancelled })
    }

    async fn blame(&self, delivery: &Delivery) -> Result<Option<Rc<JobBlame>>, Away> {
        let (stream, subject) = ("events".into(), blame_subject(&delivery.job.key));
        match self.shared.connection.request(|request| Op::Last { stream, subject, request }).await? {
            Answer::Last(found) => Ok(found.and_then(|found| match found.body {
                Some(Body::Blame(blame)) => Some(blame),
                _ => None,
            })),
            _ => Err(Away),
        }
    }

    async fn is_cancelled(&self, delivery: &Delivery) -> Result<bool, Away> {
        let (stream, subject) = ("cancels".into(), cancel_subject(&delivery.job.key));
        match self.shared.connection.request(|request| Op::Last { stream, subject, request }).await? {
            Answer::Last(found) => Ok(found.is_some_and(|cancel| cancel.at > delivery.stored)),
            _ => Err(Away),
        }
    }
}

/// One attempt to answer a job.
struct Attempt<'a> {
    runner: &'a JobRunner,
    delivery: &'a Delivery,
    claim: &'a Claim,
    pause: Signal,
    stored: Vec<(u64, Written)>,
    blame: Option<Rc<JobBlame>>,
    is_gone: bool,
    writer: Writer,
    begin: u32,
    next_index: u32,
    solitude: Option<Solitude>,
}

impl<'a> Attempt<'a> {
    fn new(
        runner: &'a JobRunner,
        delivery: &'a Delivery,
        claim: &'a Claim,
        pause: Signal,
        Earlier { stored, blame, is_cancelled }: Earlier,
    ) -> Self {
        if is_cancelled {
            claim.cancelled.set();
        }
        let last = stored.last().map_or(0, |(sequence, _)| *sequence);
        let next = stored.iter().try_fold(0, |index, (_, written)| next_index(index, &written.chunk));
        let writer = Writer::new(&runner.shared, &runner.reporter, &delivery.job.key, last);
        let next_index = next.unwrap_or_default();
        let is_gone = next.is_err();
        Self {
            runner,
            delivery,
            claim,
            pause,
            stored,
            blame,
            is_gone,
            writer,
            begin: next_index,
            next_index,
            solitude: None,
        }
    }

    async fn answer(&mut self) -> Outcome {
        if self.stored.last().is_some_and(|(_, last)| last.chunk.is_last()) {
            return Outcome::Settled;
        }
        if self.runner.shared.site.settings.flaws.acknowledges_first {
            let _ = self.delivery.ack().await;
        }
        let over = Signal::default();
        self.keep_alive(&over);
        let ended = self.produce(&over).await;
        over.set();
        match ended {
            // The output of a first attempt is read only now: it was not empty.
            Err(Interruption::Fenced) if self.reads_late() => match self.runner.read_late(self.delivery).await {
                Ok(earlier) => {
                    let mut again = Attempt::new(self.runner, self.delivery, self.claim, self.pause.clone(), earlier);
                    Box::pin(again.answer()).await
                }
                Err(Away) => Outcome::Returned(retry_pause(1, &self.runner.shared.site.settings.worker)),
            },
            ended => self.finish(ended).await,
        }
    }

    fn reads_late(&self) -> bool {
        self.runner.shared.site.settings.appends_first
            && self.delivery.attempt == 1
            && self.stored.is_empty()
            && self.writer.position.last() == 0
    }

    /// Extends the ack deadline until `over` is set.
    fn keep_alive(&self, over: &Signal) {
        let (delivery, over) = (self.delivery.clone(), over.clone());
        let process = self.runner.shared.child.process().clone();
        process.clone().spawn(async move {
            while !over.is_set() {
                delivery.keep_alive();
                let (sleep, end) = (process.sleep(delivery.redelivery / KEEP_ALIVES), pin!(over.wait()));
                select(sleep, end).await;
            }
        });
    }

    async fn produce(&mut self, over: &Signal) -> Result<(), Interruption> {
        if self.claim.cancelled.is_set() {
            return Err(Interruption::Cancelled);
        }
        if self.is_gone {
            return Err(Interruption::Failed(failure(FailureCode::OutputGone)));
        }
        self.take_turn().await?;
        self.append(&self.opening()).await?;
        let _producing = self.runner.reporter.producing();
        self.fuse(over);
        self.stream().await
    }

    /// Output gathers while a chunk is appended, and goes into the next one.
    async fn stream(&mut self) -> Result<(), Interruption> {
        let job = self.delivery.job.clone();
        let (process, child) = (self.runner.shared.child.process().clone(), self.runner.shared.child.clone());
        let (begun, first) = (process.now(), self.next_index);
        let mut made = first;
        loop {
            if self.claim.cancelled.is_set() {
                return Err(Interruption::Cancelled);
            }
            if self.pause.is_set() {
                return Err(Interruption::Stopped);
            }
            if made < job.tokens && !child.is_hung() {
                let pace = job.pace.as_nanos().max(1);
                let count = (process.now() - begun).as_nanos() / pace;
                let computed = first.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
                made = computed.max(made).min(job.tokens).min(self.next_index + MOST);
            }
            if made > self.next_index {
                let ids = (self.next_index..made).map(|index| job.token(index)).collect();
                self.append(&Chunk::tokens(self.next_index, ids, "")).await?;
                continue;
            }
            if self.next_index == job.tokens {
                return Ok(());
            }
            let next = begun + job.pace * (self.next_index - first + 1);
            let wait = if child.is_hung() { process.now() + Duration::from_secs(1) } else { next };
            let (sleep, cancelled, paused) =
                (process.sleep_until(wait), pin!(self.claim.cancelled.wait()), pin!(self.pause.wait()));
            select(sleep, select(cancelled, paused)).await;
        }
    }

    /// Lets a poisoned job end its worker when its time comes.
    fn fuse(&self, over: &Signal) {
        let (job, shared, over) = (self.delivery.job.clone(), self.runner.shared.clone(), over.clone());
        let Some(poison) = job.poison.filter(|poison| *poison >= self.next_index) else { return };
        let wait = job.pace * (poison - self.next_index + 1);
        let process = shared.child.process().clone();
        process.clone().spawn(async move {
            process.sleep(wait).await;
            if over.is_set() {
                return;
            }
            let (site, child) = (shared.site.clone(), shared.child.clone());
            shared.site.runtime.after(Duration::ZERO, move || {
                let exit = Exit { code: None, signal: Some(SIGSEGV) };
                site.end_child(&child, exit, &WorkerEnd::Poisoned(job.key.clone()));
            });
        });
    }

    async fn take_turn(&mut self) -> Result<(), Interruption> {
        match self.record().standing(&self.runner.shared.site.settings.worker) {
            Standing::GivenUp => Err(Interruption::Failed(failure(FailureCode::TriedTooOften))),
            Standing::Trusted if self.delivery.attempt == 1 => Ok(()),
            Standing::Trusted if self.claim.join() => Ok(()),
            Standing::Trusted => Err(Interruption::Postponed),
            Standing::OnProbation(probation) => {
                {
                    let alone = pin!(self.claim.run_alone());
                    let (cancelled, paused) = (pin!(self.claim.cancelled.wait()), pin!(self.pause.wait()));
                    match select(select(cancelled, paused), alone).await {
                        Either::Left((Either::Left(_), _)) => return Err(Interruption::Cancelled),
                        Either::Left((Either::Right(_), _)) => return Err(Interruption::Postponed),
                        Either::Right(_) => {}
                    }
                }
                let since = self.runner.shared.child.process().now();
                self.solitude = Some(Solitude { claim: self.claim.clone(), probation, since });
                Ok(())
            }
        }
    }

    fn record(&self) -> Record<'_> {
        let made_until = |sequence: u64| {
            let before = self.stored.iter().take_while(|(at, _)| *at <= sequence);
            before.map(|(_, written)| written.chunk.count()).fold(0, u32::saturating_add)
        };
        Record {
            blame: self.blame.as_deref(),
            is_begun: !self.stored.is_empty(),
            made: self.next_index,
            made_before_blame: self.blame.as_ref().map_or(0, |blame| made_until(blame.last_chunk)),
            lost: lost_workers(self.stored.iter().map(|(_, written)| &written.chunk)),
            attempt: self.delivery.attempt,
        }
    }

    fn opening(&self) -> Chunk {
        let Identity { hive, worker, model, .. } = (*self.runner.shared.identity).clone();
        if self.stored.is_empty() {
            return Chunk::Started { model, hive, worker, seed: 0, prompt_tokens: 0 };
        }
        Chunk::Resumed { hive, worker, attempt: self.delivery.attempt, index: self.next_index }
    }

    async fn append(&mut self, chunk: &Chunk) -> Result<(), Refused> {
        self.writer.append(chunk).await?;
        self.next_index = self.next_index.saturating_add(chunk.count());
        let (made, now) = (self.next_index, self.runner.shared.child.process().now());
        let is_over = |alone: &mut Solitude| alone.probation.is_over(made, now - alone.since);
        if let Some(Solitude { claim, .. }) = self.solitude.take_if(is_over) {
            claim.end_alone();
        }
        Ok(())
    }

    async fn finish(&mut self, ended: Result<(), Interruption>) -> Outcome {
        let index = self.next_index;
        let stored = match ended {
            Ok(()) => {
                let done = Chunk::Done { index, finish_reason: FinishReason::Stop, usage: Usage::new(0, index) };
                self.append(&done).await.map(|()| Outcome::Settled)
            }
            Err(Interruption::Stopped) => {
                self.append(&Chunk::Paused { index }).await.map(|()| Outcome::Returned(Duration::ZERO))
            }
            Err(Interruption::Postponed) => return Outcome::Returned(Duration::ZERO),
            Err(Interruption::Failed(failure)) => return self.fail(failure).await,
            Err(Interruption::Cancelled) => return self.fail(failure(FailureCode::Cancelled)).await,
            Err(Interruption::Fenced) => Err(Refused::Fenced),
        };
        match stored {
            Ok(outcome) => outcome,
            Err(Refused::Fenced) => Outcome::Fenced,
            Err(Refused::Failed(failure)) => self.fail(failure).await,
        }
    }

    async fn fail(&mut self, failure: Failure) -> Outcome {
        let error = Chunk::Error { error: failure };
        match self.append(&error).await {
            Ok(()) => {}
            Err(Refused::Fenced) => return Outcome::Fenced,
            Err(Refused::Failed(_)) => {
                let unstored = Body::Chunk(Written { chunk: error, writer: 0 }.into());
                self.runner.shared.connection.publish(published_subject(&self.delivery.job.key), unstored);
            }
        }
        Outcome::Settled
    }
}

impl JobRunner {
    async fn read_late(&self, delivery: &Delivery) -> Result<Earlier, Away> {
        let stored = stored_output(&self.shared, &delivery.job.key, 1).await?;
        Ok(Earlier { stored, blame: None, is_cancelled: self.is_cancelled(delivery).await? })
    }
}

fn failure(code: FailureCode) -> Failure {
    Failure::new(code, "as simulated")
}
