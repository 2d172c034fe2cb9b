//! The one task that owns what the queen knows: it hears, lets [`decide`](crate::decide) decide, and does. Step 2 of
//! a job's path.
//!
//! Nothing here asks a hive or a worker whether it is ready: registries, heartbeats and notices of queued jobs come by
//! themselves. The only timer is the moment at which a decision may turn out otherwise by itself: an idle worker's time
//! is over, or a failed start may be tried again.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use rbee_nats::{Api, AppendError, Bus, BusError, Entry, Message, Outbox, Registry, RegistryWatch, Subject};
use rbee_schema::{
    Chunk, Event as BusEvent, Failure, FailureCode, Haste, HiveCommand, HiveRecord, JobId, ModelEvent, ModelName,
    ModelSpec, QueenEvent, QueenName, Tenant, WorkerBeat, WorkerName, WorkerRecord,
};
use tokio::{task::JoinSet, time::sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    api,
    decide::{
        fleet::{Change, Fleet, WorkerKey},
        scale::{Order, next_look, orders},
    },
    infer::unknown_model,
};

/// How long the last events may take to be stored.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Who a queen is.
#[derive(Debug, Clone)]
pub struct QueenConfig {
    /// Her name.
    pub name: QueenName,
}

/// A queen that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum QueenError {
    /// The bus does not do what it must.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// What tasks report to the owner.
enum Report {
    /// How many jobs of each model are in the queue.
    Depths(Vec<(ModelName, u64)>),
    Done,
}

struct Controller {
    name: QueenName,
    bus: Bus,
    outbox: Outbox,
    fleet: Fleet,
    tasks: JoinSet<Report>,
    /// How many registries have not told yet everything that they hold. Before that nothing is decided.
    unread: u32,
    /// What was last told of models that cannot be placed.
    unplaceable: std::collections::BTreeMap<ModelName, Failure>,
}

/// Runs a queen until `stop` is cancelled. Hives and workers go on without her.
///
/// # Errors
/// When the bus is closed under her.
pub async fn run(config: QueenConfig, bus: Bus, stop: CancellationToken) -> Result<(), QueenError> {
    let controller = Controller {
        name: config.name,
        outbox: Outbox::start(&bus),
        bus,
        fleet: Fleet::default(),
        tasks: JoinSet::new(),
        unread: 3,
        unplaceable: std::collections::BTreeMap::new(),
    };
    controller.run(stop).await
}

impl Controller {
    async fn run(mut self, stop: CancellationToken) -> Result<(), QueenError> {
        let namespace = self.bus.namespace().clone();
        let mut beats = self.bus.subscribe(namespace.all_beats()).await?;
        let mut queued = self.bus.subscribe(namespace.all_queued()).await?;
        let mut cancels = self.bus.subscribe(namespace.all_cancels()).await?;
        let mut api = Api::start(&self.bus, env!("CARGO_PKG_VERSION")).await?;
        let mut hives: RegistryWatch<HiveRecord> = Registry::hives(&self.bus).watch(">").await?;
        let mut workers: RegistryWatch<WorkerRecord> = Registry::workers(&self.bus).watch(">").await?;
        let mut models: RegistryWatch<ModelSpec> = Registry::models(&self.bus).watch(">").await?;
        let mut online = self.bus.online();
        self.publish(QueenEvent::Started { version: env!("CARGO_PKG_VERSION").to_owned() });
        info!(queen = %self.name, "the queen listens");
        loop {
            let look = next_look(&self.fleet, Instant::now());
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(message) = beats.next() => {
                    // A heartbeat changes no decision by itself; what follows from it has its time.
                    self.hear_beat(&message);
                    continue;
                }
                entry = hives.next() => self.hear_hive(entry?),
                entry = workers.next() => self.hear_worker(entry?),
                entry = models.next() => self.hear_model(entry?),
                Some(message) = queued.next() => self.hear_queued(&message),
                Some(message) = cancels.next() => self.hear_cancel(&message),
                Some(report) = self.tasks.join_next() => self.hear_report(report),
                // Notices that came while the bus was away were not heard.
                Ok(()) = online.changed() => self.look_for_jobs(Change::Fewer),
                Some(request) = api.next() => {
                    api::answer(&self.name, &self.fleet, &self.bus, request);
                    continue;
                }
                () = wait_until(look) => {}
            }
            self.act();
        }
        self.publish(QueenEvent::Stopped {});
        self.outbox.drained(LAST_WORDS).await;
        info!("the queen has stopped; hives and workers go on");
        Ok(())
    }

    fn publish(&self, event: QueenEvent) {
        self.outbox.publish(&BusEvent::Queen(self.name.clone(), event));
    }

    // What is heard.

    fn hear_beat(&mut self, message: &Message) {
        let Some(Subject::WorkerBeat(hive, worker)) = self.bus.parse(&message.subject) else { return };
        match serde_json::from_slice::<WorkerBeat>(&message.payload) {
            Ok(beat) => self.fleet.worker_beats(&(hive, worker), beat, Instant::now()),
            Err(error) => warn!(%worker, %error, "a heartbeat cannot be read"),
        }
    }

    fn hear_hive(&mut self, entry: Entry<HiveRecord>) {
        match entry {
            Entry::Set(key, record) => {
                let Ok(hive) = key.parse() else { return };
                if !self.fleet.hives.contains_key(&hive) {
                    info!(%hive, "a hive is there");
                }
                self.fleet.hive_is_there(hive, record);
            }
            Entry::Gone(key) => {
                let Ok(hive) = key.parse() else { return };
                info!(%hive, "a hive is gone");
                let change = self.fleet.hive_is_gone(&hive);
                self.look_for_jobs(change);
            }
            Entry::Unreadable(key, error) => warn!(key, error, "a hive's record cannot be read"),
            Entry::Current => self.has_read(),
        }
    }

    fn hear_worker(&mut self, entry: Entry<WorkerRecord>) {
        let worker_key = |key: &str| -> Option<WorkerKey> {
            let (hive, worker) = key.split_once('.')?;
            Some((hive.parse().ok()?, worker.parse().ok()?))
        };
        match entry {
            Entry::Set(key, record) => {
                let Some(worker) = worker_key(&key) else { return };
                debug!(key, phase = record.phase.as_str(), "a worker changed");
                let change = self.fleet.worker_is(worker, record, Instant::now());
                self.look_for_jobs(change);
            }
            Entry::Gone(key) => {
                let Some(worker) = worker_key(&key) else { return };
                let change = self.fleet.worker_is_gone(&worker);
                self.look_for_jobs(change);
            }
            Entry::Unreadable(key, error) => warn!(key, error, "a worker's record cannot be read"),
            Entry::Current => self.has_read(),
        }
    }

    fn hear_model(&mut self, entry: Entry<ModelSpec>) {
        let told = |model: ModelName, event| BusEvent::Model(model, event);
        match entry {
            Entry::Set(key, spec) => {
                let Ok(model) = key.parse::<ModelName>() else { return };
                if let Err(failure) = spec.check() {
                    self.fleet.model_is_gone(&model);
                    return self.outbox.publish(&told(model, ModelEvent::Refused { failure }));
                }
                if self.fleet.models.get(&model) == Some(&spec) {
                    return;
                }
                info!(%model, reference = %spec.reference, "a model is declared");
                if self.unread == 0 {
                    self.outbox.publish(&told(model.clone(), ModelEvent::Declared { spec: spec.clone() }));
                }
                self.fleet.model_is(model, spec);
                self.look_for_jobs(Change::Fewer);
            }
            Entry::Unreadable(key, error) => {
                let Ok(model) = key.parse::<ModelName>() else { return };
                self.fleet.model_is_gone(&model);
                let failure = Failure::new(FailureCode::InvalidRequest, error);
                warn!(%model, %failure, "a declaration has no effect");
                self.outbox.publish(&told(model, ModelEvent::Refused { failure }));
            }
            Entry::Gone(key) => {
                let Ok(model) = key.parse::<ModelName>() else { return };
                self.fleet.model_is_gone(&model);
                self.outbox.publish(&told(model, ModelEvent::Withdrawn {}));
            }
            Entry::Current => self.has_read(),
        }
    }

    fn hear_queued(&mut self, message: &Message) {
        let Some((model, ..)) = self.bus.queued_notice(message) else { return };
        if self.fleet.models.contains_key(&model) {
            self.fleet.job_waits(&model, Instant::now());
        } else if self.unread == 0 {
            self.refuse_unknown(model);
        }
    }

    /// A cancelled job that nobody has begun is answered here; a worker answers the one that it runs.
    fn hear_cancel(&mut self, message: &Message) {
        let Some(Subject::Cancel(tenant, job)) = self.bus.parse(&message.subject) else { return };
        let bus = self.bus.clone();
        self.tasks.spawn(async move {
            let error = Failure::new(FailureCode::Cancelled, "the job was cancelled before it ran");
            match bus.append(&tenant, &job, &Chunk::Error { error }, 0).await {
                Ok(_) | Err(AppendError::Stale) => {}
                Err(AppendError::Bus(error)) => warn!(%job, %error, "a job could not be cancelled"),
            }
            Report::Done
        });
    }

    fn hear_report(&mut self, report: Result<Report, tokio::task::JoinError>) {
        match report {
            Ok(Report::Depths(depths)) => {
                for (model, depth) in depths.into_iter().filter(|(_, depth)| *depth > 0) {
                    debug!(%model, depth, "jobs are in the queue");
                    if self.fleet.models.contains_key(&model) {
                        self.fleet.jobs_found(&model, Instant::now());
                    } else {
                        self.refuse_unknown(model);
                    }
                }
            }
            Ok(Report::Done) => {}
            Err(error) => error!(%error, "a task of the queen panicked"),
        }
    }

    fn has_read(&mut self) {
        self.unread -= 1;
        self.look_for_jobs(Change::Fewer);
    }

    /// Looks once whether jobs wait, where somebody who would have run them is gone.
    fn look_for_jobs(&mut self, change: Change) {
        if change == Change::Same || self.unread > 0 {
            return;
        }
        let bus = self.bus.clone();
        self.tasks.spawn(async move {
            match bus.queue_depths().await {
                Ok(depths) => Report::Depths(depths),
                Err(error) => {
                    warn!(%error, "the queue cannot be looked at");
                    Report::Done
                }
            }
        });
    }

    // What is done.

    fn act(&mut self) {
        if self.unread > 0 {
            return;
        }
        let now = Instant::now();
        self.fleet.forget_stale_orders(now);
        let orders = orders(&self.fleet, now);
        let is_unplaceable = |model: &ModelName| {
            orders.iter().any(|order| matches!(order, Order::Unplaceable { model: found, .. } if found == model))
        };
        self.unplaceable.retain(|model, _| is_unplaceable(model));
        for order in orders {
            self.carry_out(order, now);
        }
    }

    fn carry_out(&mut self, order: Order, now: Instant) {
        match order {
            Order::Spawn { model, spec, hive, why } => {
                let worker = WorkerName::generate(&model);
                info!(%model, %hive, %worker, why, "a worker is ordered");
                self.fleet.ordered((hive.clone(), worker.clone()), model.clone(), now);
                let placed =
                    QueenEvent::Placed { model: model.clone(), hive: hive.clone(), worker: worker.clone(), why };
                self.publish(placed);
                self.command(hive, HiveCommand::Spawn { worker, model, spec });
            }
            Order::Stop { worker: (hive, worker), why } => {
                info!(%hive, %worker, why, "a worker is stopped");
                self.fleet.told_to_stop(&(hive.clone(), worker.clone()));
                let (at, why_told) = (hive.clone(), why.clone());
                self.publish(QueenEvent::Stopping { hive: at, worker: worker.clone(), why: why_told });
                self.command(hive, HiveCommand::Stop { worker, why, haste: Haste::Drain });
            }
            Order::Refuse { model, failure } => {
                warn!(%model, %failure, "waiting jobs are refused");
                self.fleet.demand_is_over(&model);
                self.refuse_jobs(model, move || failure.clone());
            }
            Order::Unplaceable { model, failure } => {
                if self.unplaceable.insert(model.clone(), failure.clone()).as_ref() != Some(&failure) {
                    warn!(%model, %failure, "no hive can run a model that is in demand");
                    self.publish(QueenEvent::Unplaceable { model, failure });
                }
            }
        }
    }

    fn command(&mut self, hive: rbee_schema::HiveName, command: HiveCommand) {
        let bus = self.bus.clone();
        self.tasks.spawn(async move {
            if let Err(error) = bus.command(&hive, &command).await {
                warn!(%hive, %error, "a command was not stored; it is given again later");
            }
            Report::Done
        });
    }

    /// Answers the jobs of a model that is not declared. A declaration may be on its way: the bucket is asked first.
    fn refuse_unknown(&mut self, model: ModelName) {
        let bus = self.bus.clone();
        let known: Vec<String> = self.fleet.models.keys().map(ToString::to_string).collect();
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

    fn refuse_jobs(&mut self, model: ModelName, failure: impl Fn() -> Failure + Send + 'static) {
        let bus = self.bus.clone();
        self.tasks.spawn(async move {
            answer_all(&bus, &model, &failure()).await;
            Report::Done
        });
    }
}

/// Answers every queued job of a model with a failure and takes it off the queue.
async fn answer_all(bus: &Bus, model: &ModelName, failure: &Failure) {
    let jobs = match bus.queued_jobs(model).await {
        Ok(jobs) => jobs,
        Err(error) => return warn!(%model, %error, "the queue cannot be read"),
    };
    for (sequence, tenant, job) in jobs {
        if let Err(error) = answer(bus, sequence, &tenant, &job, failure).await {
            warn!(%job, %error, "a job could not be refused");
        }
    }
}

async fn answer(bus: &Bus, sequence: u64, tenant: &Tenant, job: &JobId, failure: &Failure) -> Result<(), BusError> {
    let output = bus.output(tenant, job, 0).await?;
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

async fn wait_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
