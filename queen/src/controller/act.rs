//! What a queen does: what was decided is told, commanded, and answered.

use std::time::{Duration, Instant};

use rbee_nats::trace::STEPS;
use rbee_nats::{AppendError, Bus, BusError, CommandIssuer, IssuedCommand, QueuedJob, Registry};
use rbee_schema::{
    AlertEvent, AlertKind, Chunk, Event as BusEvent, Failure, HiveCommand, HiveName, JobId, JobInFlight, ModelName,
    ModelSpec, QueenEvent, StopMode, Tenant, WorkerName,
};
use tokio::time::sleep;
use tracing::{Instrument as _, Span, debug, info, warn};

use super::{Controller, LONGEST_REST, REST, Report, SHORT};
use crate::{
    decide::{
        fleet::WorkerKey,
        scale::{Order, next_look, orders},
        touched::Scope,
    },
    infer::{refusal, unknown_model},
    metrics,
};

/// A command of which nobody says that it is stored is given again after this long.
const AGAIN: Duration = Duration::from_secs(1);

impl Controller {
    /// Decides about what has changed. Returns when something may change by itself.
    pub(super) fn act(&mut self, look: Option<Instant>) -> Option<Instant> {
        let now = Instant::now();
        for event in self.fleet.news() {
            // Every queen sees it; one of them tells.
            if self.standing.term().is_some() {
                self.tell(event);
            }
        }
        let scope = self.fleet.touched.take();
        if let Some(term) = self.standing.term() {
            self.decide(term, &scope, now);
        }
        let next = next_look(&self.fleet, &scope, now);
        // A long look may not keep her from hearing: then she lets more come together before the next.
        let took = now.elapsed();
        self.rests_until = if took < SHORT { now } else { now + took + (took * REST).min(LONGEST_REST) };
        match scope {
            Scope::Everything => next,
            Scope::Models(_) => look.into_iter().chain(next).min(),
        }
    }

    fn decide(&mut self, term: u64, scope: &Scope, now: Instant) {
        if *scope == Scope::Everything {
            self.fleet.forget_stale_orders(now);
            for (worker, jobs) in self.fleet.stranded(now) {
                self.give_back(worker, jobs);
            }
            metrics::fleet(&self.fleet);
        }
        let orders = orders(&mut self.fleet, scope, now);
        let is_unplaceable = |model: &ModelName| {
            orders.iter().any(|order| matches!(order, Order::Unplaceable { model: found, .. } if found == model))
        };
        self.unplaceable.retain(|model, _| !scope.has(model) || is_unplaceable(model));
        for order in orders {
            self.carry_out(term, order, now);
        }
        let news = self.alerts.look(&self.fleet, scope, &self.unplaceable);
        if !news.is_empty() {
            metrics::alerts(&self.alerts);
        }
        for (kind, event) in news {
            self.alert(kind, event);
        }
    }

    pub(super) fn alert(&self, kind: AlertKind, event: AlertEvent) {
        match &event {
            AlertEvent::Raised { about, message, .. } => warn!(%kind, about, message, "an alert is raised"),
            AlertEvent::Cleared { about } => info!(%kind, about, "an alert is cleared"),
        }
        self.outbox.publish(&BusEvent::Alert(kind, event));
    }

    /// Tells the bus, and people in one line.
    fn tell(&self, event: QueenEvent) {
        match &event {
            QueenEvent::HiveSuspected { hive, why } => warn!(%hive, why, "a hive is suspect"),
            QueenEvent::HiveLost { hive, workers, .. } => {
                metrics::hive_lost();
                warn!(%hive, workers, "a hive is lost; others replace its workers");
            }
            QueenEvent::HiveReturned { hive, heartbeat_age_ms, .. } => {
                info!(%hive, heartbeat_age_ms, "a hive sends heartbeats again");
            }
            QueenEvent::HiveRemoved { hive, workers } => warn!(%hive, workers, "a hive is not expected any more"),
            QueenEvent::Fulfilled { model, worker, took_ms, expected_ms, .. } => {
                metrics::fulfilled(Duration::from_millis(*took_ms));
                info!(%model, %worker, took_ms, expected_ms, "a worker that was ordered takes jobs");
            }
            other => debug!(event = other.name(), "told"),
        }
        self.publish(event);
    }

    fn carry_out(&mut self, term: u64, order: Order, now: Instant) {
        match order {
            Order::Spawn { model, spec, hive, why } => self.spawn(term, model, spec, hive, why, now),
            Order::Stop { worker, why } => self.stop(term, worker, why, now),
            Order::Refuse { model, failure } => {
                warn!(%model, %failure, "waiting jobs are refused");
                metrics::refused();
                self.fleet.demand_is_over(&model);
                let bus = self.bus.clone();
                self.tasks.spawn(async move {
                    answer_all(&bus, &model, &failure).await;
                    Report::Done
                });
            }
            Order::Unplaceable { model, failure } => {
                if self.unplaceable.insert(model.clone(), failure.clone()).as_ref() != Some(&failure) {
                    warn!(%model, %failure, "no hive can run a model that is in demand");
                    self.publish(QueenEvent::Unplaceable { model, failure });
                }
            }
        }
    }

    fn spawn(&mut self, term: u64, model: ModelName, spec: ModelSpec, hive: HiveName, why: String, now: Instant) {
        let worker = WorkerName::generate(&model);
        let (span, trace) = self.traces.place(&self.fleet, &model, &hive, &worker);
        span.in_scope(|| info!(why, "a worker is ordered"));
        metrics::ordered();
        let key = (hive.clone(), worker.clone());
        self.fleet.ordered(key.clone(), model.clone(), now);
        let expected = self.fleet.orders.get(&key).and_then(|order| order.expected);
        let expected_ms = expected.map(|expected| u64::try_from(expected.as_millis()).unwrap_or(u64::MAX));
        let (told_model, told_hive, told_worker) = (model.clone(), hive, worker.clone());
        // Told before it is commanded: whoever leads next knows of it.
        self.publish(QueenEvent::Placed { model: told_model, hive: told_hive, worker: told_worker, why, expected_ms });
        let command = HiveCommand::Spawn { worker, model, spec };
        self.command(key, IssuedCommand { command, issuer: CommandIssuer::Leader(term), trace: Some(trace) }, span);
    }

    fn stop(&mut self, term: u64, (hive, worker): WorkerKey, why: String, now: Instant) {
        info!(%hive, %worker, why, "a worker is stopped");
        let key = (hive.clone(), worker.clone());
        self.fleet.told_to_stop(&key, now);
        self.publish(QueenEvent::Stopping { hive, worker: worker.clone(), why: why.clone() });
        let command = HiveCommand::Stop { worker, why, mode: StopMode::Drain };
        self.command(key, IssuedCommand { command, issuer: CommandIssuer::Leader(term), trace: None }, Span::none());
    }

    /// Commands the hive of a worker; `span` lasts until the command is stored.
    fn command(&mut self, (hive, worker): WorkerKey, order: IssuedCommand, span: Span) {
        let bus = self.bus.clone();
        let commanding = async move {
            let Err(error) = bus.issue(&hive, &order).await else { return Report::Done };
            if !error.is_transient() {
                warn!(%hive, %error, "a command was refused; what it was for is decided anew");
                return Report::Done;
            }
            warn!(%hive, %error, "nobody says that a command is stored; it is given again");
            sleep(AGAIN).await;
            Report::NotStored((hive, worker), Box::new(order))
        };
        self.tasks.spawn(commanding.instrument(span));
    }

    /// Nobody says that a command is stored: it is given again, unless its hive has obeyed or it was given up meanwhile; a
    /// hive obeys the same one once. Where she leads anew she gives it in her new term; where somebody else does, its hive
    /// refuses it.
    pub(super) fn command_again(&mut self, key: WorkerKey, order: IssuedCommand) {
        if self.fleet.awaits(&key) {
            let issuer = self.standing.term().map_or(order.issuer, CommandIssuer::Leader);
            self.command(key, IssuedCommand { issuer, ..order }, Span::current());
        }
    }

    /// The jobs of a worker that is gone with its hive go to others. What it may still append is refused.
    fn give_back(&mut self, (hive, worker): WorkerKey, jobs: Vec<JobInFlight>) {
        warn!(%hive, %worker, jobs = jobs.len(), "a worker is gone with its hive; its jobs go back to the queue");
        metrics::stranded(jobs.len());
        let (bus, outbox) = (self.bus.clone(), self.outbox.clone());
        self.tasks.spawn(async move {
            bus.return_to_queue(&outbox, &hive, &worker, jobs).await;
            Report::Done
        });
    }

    /// Answers the jobs of a model that is not declared. A declaration may be on its way: the bucket is asked first.
    pub(super) fn refuse_unknown(&mut self, model: ModelName) {
        if self.standing.term().is_none() {
            return;
        }
        let bus = self.bus.clone();
        let known: Vec<String> = self.fleet.models.keys().take(KNOWN).map(ToString::to_string).collect();
        self.tasks.spawn(async move {
            let declared = Registry::models(&bus).get(model.as_str()).await;
            if declared.is_ok_and(|spec| spec.is_some_and(|spec| spec.check().is_ok())) {
                return bus.queue_depths().await.map_or(Report::Done, Report::Depths);
            }
            let failure = unknown_model(model.as_str(), known.iter().map(String::as_str));
            answer_all(&bus, &model, &failure).await;
            Report::Done
        });
    }
}

/// So many models are listed where somebody asks for one that is not there.
const KNOWN: usize = 50;

/// Answers every queued job of a model with a failure and takes it off the queue.
async fn answer_all(bus: &Bus, model: &ModelName, failure: &Failure) {
    let jobs = match bus.queued_jobs(model).await {
        Ok(jobs) => jobs,
        Err(error) => return warn!(%model, %error, "the queue cannot be read"),
    };
    for QueuedJob { sequence, tenant, job, trace } in jobs {
        let span = refusal(&tenant, &job, &trace);
        match answer(bus, sequence, &tenant, &job, failure).instrument(span.clone()).await {
            Ok(()) => span.in_scope(|| debug!(target: STEPS, "refused: {failure}")),
            Err(error) => span.in_scope(|| warn!(%job, %error, "a job could not be refused")),
        }
    }
}

async fn answer(bus: &Bus, sequence: u64, tenant: &Tenant, job: &JobId, failure: &Failure) -> Result<(), BusError> {
    let output = bus.stored_output(tenant, job, 0).await?;
    let last = output.last();
    if !last.is_some_and(|last| last.chunk.is_last()) {
        let chunk = Chunk::Error { error: failure.clone() };
        match bus.append(tenant, job, &chunk, last.map_or(0, |last| last.sequence)).await {
            Ok(_) => {}
            // Somebody runs it after all.
            Err(AppendError::Stale) => return Ok(()),
            Err(AppendError::Bus(error)) => return Err(error),
        }
    }
    bus.drop_job(sequence).await
}
