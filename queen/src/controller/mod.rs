//! The one task that owns what the queen knows: it hears, lets [`decide`](crate::decide) decide, and does. Step 2 of
//! a job's path.
//!
//! Nothing here asks a hive or a worker whether it is ready: registries, heartbeats and notices of queued jobs come by
//! themselves. The only timer is the moment at which a decision may turn out otherwise by itself: an idle worker's time
//! is over, a hive has been silent for too long, or a failed start may be tried again.
//!
//! Every queen hears everything and answers; only the one who leads decides (see [`leader`](crate::leader)).

mod act;
mod hear;
mod trace;

use std::{
    collections::BTreeMap,
    future::ready,
    time::{Duration, Instant, SystemTime},
};

use futures::StreamExt as _;
use rbee_nats::{
    Api, Bus, BusError, EventRecord, IssuedCommand, Outbox, Registry, RegistryWatch, Subject, recent_events,
};
use rbee_schema::{
    AlertEvent, AlertKind, Event as BusEvent, Failure, FileRecord, HiveRecord, ModelName, ModelSpec, QueenEvent,
    QueenName, WorkerRecord,
};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::sleep_until,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{info, warn};

use self::trace::Traces;
use crate::{
    api,
    decide::{
        alert::Alerts,
        bounds::Bounds,
        fleet::{Change, Fleet, WorkerKey},
        timers::Timers,
    },
    leader::{self, Standing},
    metrics, sealer,
};

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
    /// What she bears.
    pub bounds: Bounds,
}

/// A queen that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum QueenError {
    /// The bus does not do what it must.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The task that campaigns for the lead has ended before her.
    #[error("failed to campaign for the lead: {0}")]
    Campaign(String),
}

/// What tasks report to the owner.
enum Report {
    /// How many jobs of each model are in the queue.
    Depths(Vec<(ModelName, u64)>),
    /// Nobody says that what was commanded about a worker is stored.
    NotStored(WorkerKey, Box<IssuedCommand>),
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
        fleet: Fleet::new(config.timers, config.bounds),
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
        let mut beats = self.bus.subscribe(namespace.all_heartbeats()).await?;
        let mut queued = self.bus.subscribe(namespace.all_queued()).await?;
        let mut cancels = self.bus.subscribe(namespace.all_cancels()).await?;
        let mut dead = self.bus.subscribe(namespace.all_dead()).await?;
        let mut placed = self.bus.subscribe(namespace.all_placements()).await?;
        let mut watch_refused_logins = self.bus.watch_refused_logins().await?;
        let mut disconnects = self.bus.watch_disconnects().await?;
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
        let campaign_ends = CancellationToken::new();
        let (bus, name, timers) = (self.bus.clone(), self.name.clone(), self.fleet.timers.clone());
        let campaign = leader::campaign(bus, name, timers, tell_standing, campaign_ends.clone());
        let mut campaign = AbortOnDropHandle::new(tokio::spawn(campaign));
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
                // Without it she would never lead again, and nobody would know why.
                ended = &mut campaign => return Err(QueenError::Campaign(why(ended))),
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
                Some(message) = watch_refused_logins.next() => self.hear_refused_login(&message),
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
        self.outbox.drained(self.fleet.timers.final_flush).await;
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
                self.fleet.forget_stops();
                self.alerts.forget();
                let sealing = sealer::seal(self.bus.clone(), self.fleet.timers.seal);
                self.sealer = Some(AbortOnDropHandle::new(tokio::spawn(sealing)));
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
}

/// What was commanded within the last `patience`, by whoever led then, and has not reached its hive yet, as far as is told;
/// and how long ago.
async fn recent_orders(bus: &Bus, patience: Duration) -> Result<Vec<(WorkerKey, ModelName, Duration)>, BusError> {
    let now = SystemTime::now();
    let since = now.checked_sub(patience).unwrap_or(SystemTime::UNIX_EPOCH);
    let placed = recent_events(bus, &bus.namespace().all_placements(), since).await?;
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

/// Why the campaign has ended, which it does not by itself.
fn why(ended: Result<Result<(), BusError>, JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "nobody has told it to end".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(panicked) => panicked.to_string(),
    }
}

async fn wait_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
