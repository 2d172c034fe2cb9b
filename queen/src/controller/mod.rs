//! The one task that owns what the queen knows: it hears, lets [`decide`](crate::decide) decide, and does. Step 2 of
//! a job's path.
//!
//! Nothing here asks a hive or a worker whether it is ready: registries, heartbeats and notices of queued jobs come by
//! themselves. The only timer is the moment at which a decision may turn out otherwise by itself: an idle worker's time
//! is over, a hive has been silent for too long, or a failed start may be tried again.
//!
//! Every queen hears everything and answers; only the one who leads decides (see [`leader`](crate::leader)).

mod hear;
mod trace;

use std::{
    collections::BTreeMap,
    future::ready,
    time::{Duration, Instant, SystemTime},
};

use futures::StreamExt as _;
use rbee_nats::{
    Api, AppendError, Authority, Bus, BusError, EventRecord, Order as HiveOrder, Outbox, Registry, RegistryWatch,
    Subject, recent_events,
};
use rbee_schema::{
    AlertEvent, AlertKind, Chunk, Event as BusEvent, Failure, FileRecord, Haste, HiveCommand, HiveName, HiveRecord,
    JobEvent, JobId, JobInFlight, ModelName, ModelSpec, QueenEvent, QueenName, Tenant, WorkerName, WorkerRecord,
};
use tokio::{sync::watch, task::JoinSet, time::sleep_until};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{Instrument as _, Span, debug, info, warn};

use self::trace::Traces;
use crate::{
    api,
    decide::{
        alert::Alerts,
        fleet::{Change, Fleet, WorkerKey},
        scale::{Order, next_look, orders},
        timers::Timers,
        touched::Scope,
    },
    infer::unknown_model,
    leader::{self, Standing},
    metrics, sealer,
};

/// How long the last events may take to be stored.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A look that comes this much later than it was due says that this queen stood still: what was not heard meanwhile
/// means nothing.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// After so many heartbeats something else is heard, where there is something.
const BEATS: u32 = 64;

/// A look that takes less than this delays nobody.
const SHORT: Duration = Duration::from_millis(1);

/// After a longer one she decides nothing for so many times as long, and never for longer than it takes until somebody
/// notices.
const REST: u32 = 5;
const LONGEST_REST: Duration = Duration::from_millis(20);

/// Who a queen is.
#[derive(Debug, Clone)]
pub struct QueenConfig {
    /// Her name.
    pub name: QueenName,
    /// How long she waits for what.
    pub timers: Timers,
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
    traces: Traces,
    tasks: JoinSet<Report>,
    /// How many registries have not told yet everything that they hold. Before that nothing is decided.
    unread: u32,
    /// Whether she leads.
    standing: Standing,
    /// What was last told of models that cannot be placed.
    unplaceable: BTreeMap<ModelName, Failure>,
    alerts: Alerts,
    /// Seals the trail of events while she leads.
    sealer: Option<AbortOnDropHandle<()>>,
    /// When the queue was last counted, and whether it is being counted.
    counted: Option<Instant>,
    is_counting: bool,
    /// Until when nothing is decided.
    rests_until: Instant,
    /// Told to end over the bus.
    ends: Option<String>,
}

/// Runs a queen until `stop` is cancelled or she is told to over the bus. Hives and workers go on without her.
///
/// # Errors
/// When the bus is closed under her.
pub async fn run(config: QueenConfig, bus: Bus, stop: CancellationToken) -> Result<(), QueenError> {
    let controller = Controller {
        name: config.name,
        outbox: Outbox::start(&bus),
        bus,
        fleet: Fleet::new(config.timers),
        traces: Traces::default(),
        tasks: JoinSet::new(),
        unread: 4,
        standing: Standing::Follows { why: String::new() },
        unplaceable: BTreeMap::new(),
        alerts: Alerts::default(),
        sealer: None,
        counted: None,
        is_counting: false,
        rests_until: Instant::now(),
        ends: None,
    };
    controller.run(stop).await
}

impl Controller {
    async fn run(mut self, stop: CancellationToken) -> Result<(), QueenError> {
        let namespace = self.bus.namespace().clone();
        let mut beats = self.bus.subscribe(namespace.all_beats()).await?;
        let mut queued = self.bus.subscribe(namespace.all_queued()).await?;
        let mut cancels = self.bus.subscribe(namespace.all_cancels()).await?;
        let mut dead = self.bus.subscribe(namespace.all_dead()).await?;
        let mut placed = self.bus.subscribe(namespace.all_placed()).await?;
        let mut refused_logins = self.bus.refused_logins().await?;
        let mut disconnects = self.bus.disconnects().await?;
        let mut control = self.bus.subscribe(self.bus.subject(&Subject::QueenControl)).await?;
        for (key, model, age) in recent_orders(&self.bus, self.fleet.timers.order).await? {
            let now = Instant::now();
            self.fleet.ordered(key, model, now.checked_sub(age).unwrap_or(now));
        }
        let mut api = Api::start(&self.bus, &self.name, env!("CARGO_PKG_VERSION")).await?;
        let mut hives: RegistryWatch<HiveRecord> = Registry::hives(&self.bus).watch(">").await?;
        let mut workers: RegistryWatch<WorkerRecord> = Registry::workers(&self.bus).watch(">").await?;
        let mut models: RegistryWatch<ModelSpec> = Registry::models(&self.bus).watch(">").await?;
        let mut files: RegistryWatch<FileRecord> = Registry::files(&self.bus).watch(">").await?;
        let (tell_standing, mut standing) = watch::channel(self.standing.clone());
        let campaign_ends = stop.child_token();
        let campaign = leader::campaign(self.bus.clone(), self.name.clone(), tell_standing, campaign_ends.clone());
        let mut campaign = tokio::spawn(campaign);
        let mut online = self.bus.online();
        self.publish(QueenEvent::Started { version: env!("CARGO_PKG_VERSION").to_owned() });
        info!(queen = %self.name, "the queen listens");
        let (mut look, mut turn) = (None, 0_u32);
        while self.ends.is_none() {
            // However much there is to hear: what follows from it is decided in between.
            if self.unread == 0 && !self.fleet.touched.is_nothing() && Instant::now() >= self.rests_until {
                look = self.act(look);
            }
            turn = turn.wrapping_add(1);
            // So is everything else heard in between.
            let hears_beats = !turn.is_multiple_of(BEATS);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Ok(()) = standing.changed() => {
                    let standing = standing.borrow_and_update().clone();
                    self.stands(standing);
                }
                Some(message) = beats.next(), if hears_beats => self.hear_beat(&message),
                entry = hives.next() => self.hear_hive(entry?),
                entry = workers.next() => self.hear_worker(entry?),
                entry = models.next() => self.hear_model(entry?),
                entry = files.next() => self.hear_file(entry?),
                Some(message) = queued.next() => self.hear_queued(&message),
                Some(message) = cancels.next() => self.hear_cancel(&message),
                Some(message) = dead.next() => self.hear_dead(&message),
                Some(message) = placed.next() => self.hear_placed(&message),
                Some(message) = refused_logins.next() => self.hear_refused_login(&message),
                Some(message) = disconnects.next() => self.hear_disconnect(&message),
                Some(message) = control.next() => self.hear_control(&message),
                Some(report) = self.tasks.join_next() => self.hear_report(report),
                // Notices that came while the bus was away were not heard.
                Ok(()) = online.changed() => self.was_deaf("the bus was away"),
                Some(request) = api.next() => api::answer(&self.context(), request),
                () = wait_until(Some(self.rests_until)), if self.unread == 0 && !self.fleet.touched.is_nothing() => {}
                () = wait_until(look) => self.hear_clock(look.take()),
                () = ready(()), if !hears_beats => {}
            }
        }
        self.publish(QueenEvent::Stopped {});
        campaign_ends.cancel();
        if let Err(error) = (&mut campaign).await {
            warn!(%error, "the lead could not be given up; it lapses");
        }
        self.outbox.drained(LAST_WORDS).await;
        info!("the queen has stopped; hives and workers go on");
        Ok(())
    }

    fn publish(&self, event: QueenEvent) {
        self.outbox.publish(&BusEvent::Queen(self.name.clone(), event));
    }

    fn context(&self) -> api::Context<'_> {
        api::Context {
            queen: &self.name,
            fleet: &self.fleet,
            bus: &self.bus,
            outbox: &self.outbox,
            standing: &self.standing,
        }
    }

    /// She leads from now on, or no longer.
    fn stands(&mut self, standing: Standing) {
        match (&standing, self.standing.term()) {
            (Standing::Leads { term, after }, _) => {
                self.publish(QueenEvent::Elected { term: *term, after: after.clone() });
                if let Some(before) = after {
                    self.alert(
                        AlertKind::LeaderChanged,
                        AlertEvent::Raised {
                            about: self.name.to_string(),
                            message: format!("queen {} leads after {before}", self.name),
                            remedy: format!("look whether queen {before} runs, unless she was stopped"),
                        },
                    );
                }
                self.unplaceable.clear();
                self.alerts.forget();
                self.sealer = Some(AbortOnDropHandle::new(tokio::spawn(sealer::seal(self.bus.clone()))));
                self.standing = standing;
                self.look_for_jobs(Change::Fewer);
            }
            (Standing::Follows { why }, Some(term)) => {
                self.publish(QueenEvent::Deposed { term, why: why.clone() });
                self.sealer = None;
                self.alerts.forget();
                metrics::alerts(&self.alerts);
                self.standing = standing;
            }
            (Standing::Follows { .. }, None) => {}
        }
        self.fleet.touched.everything();
        metrics::leads(self.standing.term().is_some());
    }

    /// Counts the queue once.
    fn count(&mut self, now: Instant) {
        if self.is_counting {
            return;
        }
        (self.is_counting, self.counted) = (true, Some(now));
        let bus = self.bus.clone();
        self.tasks.spawn(async move {
            match bus.queue_depths().await {
                Ok(depths) => Report::Depths(depths),
                Err(error) => {
                    warn!(%error, "the queue cannot be looked at");
                    Report::Depths(Vec::new())
                }
            }
        });
    }

    /// Looks once whether jobs wait, where somebody who would have run them is gone.
    fn look_for_jobs(&mut self, change: Change) {
        if change == Change::Fewer && self.unread == 0 {
            self.count(Instant::now());
        }
    }

    // What is done.

    /// Decides about what has changed. Returns when something may change by itself.
    fn act(&mut self, look: Option<Instant>) -> Option<Instant> {
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

    fn alert(&self, kind: AlertKind, event: AlertEvent) {
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
            QueenEvent::HiveReturned { hive, silent_ms, .. } => info!(%hive, silent_ms, "a hive is heard again"),
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
        let (told_model, told_hive, told_worker) = (model.clone(), hive.clone(), worker.clone());
        // Told before it is commanded: whoever leads next knows of it.
        self.publish(QueenEvent::Placed { model: told_model, hive: told_hive, worker: told_worker, why, expected_ms });
        let command = HiveCommand::Spawn { worker, model, spec };
        self.command(hive, HiveOrder { command, by: Authority::Leader(term), trace: Some(trace) }, span);
    }

    fn stop(&mut self, term: u64, (hive, worker): WorkerKey, why: String, now: Instant) {
        info!(%hive, %worker, why, "a worker is stopped");
        self.fleet.told_to_stop(&(hive.clone(), worker.clone()), now);
        let (at, told) = (hive.clone(), why.clone());
        self.publish(QueenEvent::Stopping { hive: at, worker: worker.clone(), why: told });
        let command = HiveCommand::Stop { worker, why, haste: Haste::Drain };
        self.command(hive, HiveOrder { command, by: Authority::Leader(term), trace: None }, Span::none());
    }

    /// Commands a hive; `span` lasts until the command is stored.
    fn command(&mut self, hive: HiveName, order: HiveOrder, span: Span) {
        let bus = self.bus.clone();
        let commanding = async move {
            if let Err(error) = bus.order(&hive, &order).await {
                warn!(%hive, %error, "a command was not stored; it is given again later");
            }
            Report::Done
        };
        self.tasks.spawn(commanding.instrument(span));
    }

    /// The jobs of a worker that is gone with its hive go to others. What it may still append is refused.
    fn give_back(&mut self, (hive, worker): WorkerKey, jobs: Vec<JobInFlight>) {
        warn!(%hive, %worker, jobs = jobs.len(), "a worker is gone with its hive; its jobs go back to the queue");
        metrics::stranded(jobs.len());
        let (bus, outbox) = (self.bus.clone(), self.outbox.clone());
        self.tasks.spawn(async move {
            for job in jobs {
                if let Err(error) = bus.give_back(&job).await {
                    warn!(job = %job.job, %error, "a job comes back only when its time is over");
                }
                let returned = JobEvent::Returned { hive: hive.clone(), worker: worker.clone() };
                outbox.publish(&BusEvent::Job(job.tenant, job.job, returned));
            }
            Report::Done
        });
    }

    /// Answers the jobs of a model that is not declared. A declaration may be on its way: the bucket is asked first.
    fn refuse_unknown(&mut self, model: ModelName) {
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

/// What was commanded within the last `patience`, by whoever led then, and has not reached its hive yet, as far as is told;
/// and how long ago.
async fn recent_orders(bus: &Bus, patience: Duration) -> Result<Vec<(WorkerKey, ModelName, Duration)>, BusError> {
    let now = SystemTime::now();
    let since = now.checked_sub(patience).unwrap_or(SystemTime::UNIX_EPOCH);
    let placed = recent_events(bus, &bus.namespace().all_placed(), since).await?;
    if placed.is_empty() {
        return Ok(Vec::new());
    }
    let told = recent_events(bus, &bus.namespace().all_worker_events(), since).await?;
    let reached: Vec<WorkerKey> = told.iter().filter_map(|event| worker_of(bus, &event.subject)).collect();
    let order = |event: &EventRecord| match serde_json::from_slice(&event.body) {
        Ok(QueenEvent::Placed { model, hive, worker, .. }) => {
            Some(((hive, worker), model, now.duration_since(event.stored).unwrap_or_default()))
        }
        _ => None,
    };
    Ok(placed.iter().filter_map(order).filter(|(key, ..)| !reached.contains(key)).collect())
}

/// Whom an event of a worker is about.
fn worker_of(bus: &Bus, subject: &str) -> Option<WorkerKey> {
    match bus.parse(subject)? {
        Subject::WorkerEvent(hive, worker, _) => Some((hive, worker)),
        _ => None,
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
