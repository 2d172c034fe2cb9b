//! The one task of a hive that owns its workers: it hears, lets [`decide`](crate::decide) decide, and does. Step 3 of
//! a job's path.
//!
//! Whatever takes time (fetching a model, starting a process, waiting for its exit, a request to the bus) is a task of its
//! own that reports back here as a [`Report`], so that nothing delays the notice of a dead worker.

mod admission;
mod effects;
mod files;
mod hear;
mod recover;
mod shutdown;
mod tell;
mod trace;
mod watch;

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use rbee_nats::{
    Bus, BusError, CommandQueue, Entry, IssuedCommand, Outbox, PortClaim, PortLeases, Registry, RegistryWatch,
};
use rbee_schema::{
    Failure, FileRecord, HiveEvent, HiveRecord, HostName, LeaderRecord, ModelReference, PortLease, Protocol, StopMode,
    WorkerName, WorkerRecord,
};
use serde::de::DeserializeOwned;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch as channel},
    task::JoinSet,
    time::{Interval, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use self::{admission::Provided, trace::Spawning};
use crate::{
    HiveConfig, HiveError,
    decide::{
        admit::Need, agreement::disagreement, lateness, lateness::Lateness, ports::PortBook, rules::Rules,
        strain::Strain, worker::Worker,
    },
    http::Health,
    inventory::{Cards, Inventory},
    launch::Launched,
    ledger::{Ledger, Page},
    limits::{Cage, Enforcer},
    notify, output,
    process::{ExitStatus, Process},
    stop_request,
    store::Store,
};

/// A pause before commands are received again.
const PAUSE: Duration = Duration::from_secs(1);

type EntryReceiver<T> = mpsc::Receiver<Result<Entry<T>, BusError>>;
type OrderReceiver = mpsc::Receiver<Result<IssuedCommand, Failure>>;

/// What tasks report to the owner.
enum Report {
    /// A model is on this machine, or cannot be.
    Provided {
        worker: WorkerName,
        epoch: u64,
        provided: Result<Provided, Failure>,
    },
    Fetched {
        reference: ModelReference,
        outcome: Result<FileRecord, Failure>,
    },
    FileRemoved {
        reference: ModelReference,
        outcome: Result<u64, Failure>,
    },
    Launched(WorkerName, Launched),
    Exited(WorkerName, u64, io::Result<ExitStatus>),
    Released {
        worker: WorkerName,
        port: u16,
        why: String,
        revision: Option<u64>,
    },
    Renewed(PortLease, PortClaim),
    /// A lease of ours that no worker seemed to have stands there still.
    Leased {
        port: u16,
        lease: PortLease,
    },
    /// A process cannot be kept within its limits.
    NotEnclosed {
        worker: WorkerName,
        pid: u32,
        error: io::Error,
    },
    Health {
        worker: WorkerName,
        epoch: u64,
        well: bool,
    },
    Done,
}

/// A worker with what only the shell around it has.
struct Charge {
    worker: Worker,
    process: Option<Process>,
    /// What keeps it within its limits, while it has a process.
    cage: Option<Cage>,
    /// What it was promised, from the moment on which it was admitted, until its process is gone.
    need: Option<Need>,
    /// When it was to be started.
    asked: Option<Instant>,
    /// How much memory it has touched, as it last said.
    touched: u64,
    claim: Option<PortClaim>,
    lease: PortLease,
    /// Its first start, until it is ready or has failed.
    spawning: Option<Spawning>,
    /// What the registry and the ledger have of it.
    written: Option<WorkerRecord>,
    page: Option<Page>,
}

impl Charge {
    /// A worker without a process, of which nothing is written yet.
    fn new(worker: Worker, lease: PortLease) -> Self {
        Self {
            worker,
            process: None,
            cage: None,
            need: None,
            asked: None,
            touched: 0,
            claim: None,
            lease,
            spawning: None,
            written: None,
            page: None,
        }
    }
}

struct Supervisor {
    config: HiveConfig,
    /// Those of the configuration, their timers stretched by how late the machine is.
    rules: Rules,
    epoch: u64,
    ledger: Ledger,
    bus: Bus,
    outbox: Outbox,
    records: Registry<WorkerRecord>,
    leases: PortLeases,
    ports: PortBook,
    enforcer: Enforcer,
    cards: Cards,
    /// What the machine had when it was last looked at.
    inventory: Option<Inventory>,
    store: Store,
    charges: BTreeMap<WorkerName, Charge>,
    tasks: JoinSet<Report>,
    lateness: Lateness,
    strain: Strain,
    /// Why this hive does not suit the queen who leads, where it does not.
    disagreement: Option<String>,
    /// Why load is better placed elsewhere, where it is.
    degraded: Option<String>,
    /// Whether it takes further workers.
    draining: bool,
    /// Whether a queen leads, as far as is known.
    has_leader: bool,
    /// When the workers that are left are drained, and why, where the hive drains and a queen moves its models first.
    drains_at: Option<(Instant, String)>,
    /// By how many milliseconds our clock is ahead of the server's.
    clock_skew_ms: i64,
    health: channel::Sender<Health>,
    /// Told to end, by the bus or by a newer hive of the same name.
    end: Option<End>,
}

/// Why a hive ends although nobody pressed Ctrl-C.
enum End {
    Commanded(String),
    Fenced(HostName),
}

/// Runs a hive until `stop` says how urgently it is to end, then stops its workers and tells how that went. `health` is
/// told how it is.
///
/// # Errors
/// When it cannot begin, a newer hive of its name has come, or the bus is closed under it.
pub async fn run(
    config: HiveConfig,
    bus: Bus,
    health: channel::Sender<Health>,
    stop: channel::Receiver<Option<StopMode>>,
) -> Result<(), HiveError> {
    if !config.worker_program.is_file() {
        return Err(HiveError::NoWorkerProgram(config.worker_program));
    }
    let mut ledger = Ledger::open(&config.data, &config.name)?;
    let there = Registry::hives(&bus).get(config.name.as_str()).await?;
    let seen = there.as_ref().map_or(0, |record| record.epoch);
    if let Some(HiveRecord { host, pid, state_id, .. }) = there
        && state_id != ledger.id()
    {
        return Err(HiveError::Runs { name: config.name, host, pid });
    }
    let enforcer = Enforcer::detect(&config.name, ledger.id());
    let supervisor = Supervisor {
        epoch: ledger.next_epoch(seen)?,
        ledger,
        records: Registry::workers(&bus),
        leases: PortLeases::new(&bus, &config.host, config.rules.timers.port_lease),
        ports: PortBook::new(config.ports.clone(), config.rules.timers.foreign_port),
        enforcer,
        cards: Cards::open(),
        inventory: None,
        store: Store::open(config.store.clone()).map_err(HiveError::Store)?,
        charges: BTreeMap::new(),
        tasks: JoinSet::new(),
        outbox: Outbox::start(&bus),
        lateness: Lateness::default(),
        strain: Strain::default(),
        disagreement: None,
        degraded: None,
        draining: false,
        has_leader: false,
        drains_at: None,
        clock_skew_ms: bus.clock_skew_ms().await?,
        end: None,
        rules: config.rules.clone(),
        health,
        bus,
        config,
    };
    supervisor.run(stop).await
}

impl Supervisor {
    async fn run(mut self, mut stop: channel::Receiver<Option<StopMode>>) -> Result<(), HiveError> {
        let namespace = self.bus.namespace().clone();
        let name = self.config.name.clone();
        let mut words = self.bus.subscribe(namespace.worker_events_of(&name)).await?;
        let mut beats = self.bus.subscribe(namespace.worker_heartbeats_of(&name)).await?;
        // What was left is looked after before anybody may command anything.
        self.look_at_machine();
        self.recover().await?;
        self.show_files().await?;
        let (mut leases, _leases) = follow(Registry::ports(&self.bus).watch(&format!("{}.*", self.config.host)).await?);
        let (mut namesakes, _namesakes) = follow(Registry::hives(&self.bus).watch(name.as_str()).await?);
        let (mut leader, _leader) = self.meet_leader().await?;
        let (mut commands, _listening) = self.listen_for_commands().await?;
        let mut children = signal(SignalKind::child())?;
        let mut online = self.bus.online();
        let mut is_online = *online.borrow_and_update();
        let timers = &self.config.rules.timers;
        let (mut beat, mut presence, mut renew) =
            (ticks(timers.beat), ticks(timers.presence), ticks(timers.lease_renewal));
        let (mut clock, mut health) = (ticks(lateness::TICK), ticks(timers.health));
        let mut watchdog = notify::watchdog_period().map(ticks);
        self.join();
        while self.end.is_none() {
            let deadline = self.next_deadline(is_online);
            tokio::select! {
                biased;
                // What a worker has said before its end counts before its end.
                Some(message) = beats.next() => self.hear_beat(&message),
                Some(report) = self.tasks.join_next() => self.report(report),
                Some(message) = words.next() => self.hear_word(&message),
                _ = children.recv() => self.look_for_frozen(),
                // Before the commands: it says whose are over.
                Some(entry) = leader.recv() => self.hear_leader(entry?),
                command = commands.recv() => match command {
                    Some(Ok(order)) => self.hear_order(order),
                    Some(Err(failure)) => self.publish(HiveEvent::Refused { failure }),
                    None => return Err(HiveError::Closed),
                },
                Some(entry) = leases.recv() => self.hear_lease(entry?),
                Some(entry) = namesakes.recv() => self.hear_own_key(entry?),
                // Before the deadlines: that the bus was away says that silence meant nothing.
                changed = online.changed() => if changed.is_ok() {
                    is_online = *online.borrow_and_update();
                    self.bus_is(is_online);
                },
                // Before the deadlines: how late the machine is says how much they count.
                _ = clock.tick() => self.hear_clock(),
                () = wait_until(deadline) => self.wake(),
                _ = beat.tick() => {
                    self.look_at_strain();
                    self.beat(is_online).await;
                }
                _ = health.tick() => self.ask_health(),
                _ = presence.tick() => self.show_presence(),
                _ = renew.tick() => self.renew(),
                () = tick_of(&mut watchdog) => notify::alive(),
                _ = stop_request::stop_requested(&mut stop) => break,
            }
        }
        let fenced = match &self.end {
            Some(End::Fenced(by)) => Some(HiveError::Fenced { name, by: by.clone() }),
            Some(End::Commanded(_)) | None => None,
        };
        self.shut_down(&mut beats, stop).await;
        fenced.map_or(Ok(()), Err)
    }

    /// Who leads, then each change, and the task that hears of it.
    async fn meet_leader(&mut self) -> Result<(EntryReceiver<LeaderRecord>, AbortOnDropHandle<()>), HiveError> {
        let mut watch = Registry::leader(&self.bus).watch(">").await?;
        loop {
            match watch.next().await? {
                Entry::Synced => return Ok(follow(watch)),
                entry => {
                    if let Entry::Set { document, .. } = &entry {
                        self.suits(document)?;
                    }
                    self.hear_leader(entry);
                }
            }
        }
    }

    /// Whether this hive and the queen who leads can work together.
    fn suits(&self, leader: &LeaderRecord) -> Result<(), HiveError> {
        if leader.protocol.shared(Protocol::OURS).is_none() {
            return Err(HiveError::Incompatible { version: leader.version.clone(), theirs: leader.protocol });
        }
        disagreement(self.config.rules.timers.beat, leader).map_or(Ok(()), |why| Err(HiveError::Unsuited(why)))
    }

    /// The commands as they come, and the task that receives them: it ends with its handle.
    async fn listen_for_commands(&self) -> Result<(OrderReceiver, AbortOnDropHandle<()>), BusError> {
        let mut commands = CommandQueue::open(&self.bus, &self.config.name).await?;
        // A few commands may wait while one is carried out; the rest waits on the bus.
        let (sender, receiver) = mpsc::channel(8);
        let receiving = tokio::spawn(async move {
            loop {
                let sent = match commands.next().await {
                    Ok(Some(command)) => sender.send(command).await,
                    Ok(None) => Ok(()),
                    Err(error) => {
                        warn!(%error, "commands cannot be received; trying again");
                        tokio::time::sleep(PAUSE).await;
                        Ok(())
                    }
                };
                if sent.is_err() {
                    return;
                }
            }
        });
        Ok((receiver, AbortOnDropHandle::new(receiving)))
    }

    fn next_deadline(&self, online: bool) -> Option<Instant> {
        // While the bus is away a worker's silence is not its own.
        if !online {
            return None;
        }
        let workers = self.charges.values().filter_map(|charge| charge.worker.deadline(&self.rules.timers));
        let drain = self.drains_at.as_ref().map(|(at, _)| *at);
        workers.chain(self.strain.next_look(&self.rules)).chain(drain).min()
    }

    fn wake(&mut self) {
        let now = Instant::now();
        let due = |charge: &Charge| charge.worker.deadline(&self.rules.timers).is_some_and(|deadline| deadline <= now);
        let due: Vec<_> = self.charges.iter().filter(|(_, charge)| due(charge)).map(|(name, _)| name.clone()).collect();
        for worker in due {
            self.step(&worker, crate::decide::worker::Event::DeadlinePassed);
        }
        if let Some((_, why)) = self.drains_at.take_if(|(at, _)| *at <= now) {
            self.stop_all(&why, StopMode::Drain);
        }
        self.look_at_strain();
    }

    fn renew(&mut self) {
        self.renew_leases();
        let workers = self.charges.keys().map(|worker| output::log_file(&self.config.data, worker));
        let logs: Vec<_> = workers.chain([self.ledger.own_log()]).collect();
        let large = self.config.rules.bounds.log_size;
        self.tasks.spawn_blocking(move || {
            logs.iter().for_each(|log| output::rotate(log, large));
            Report::Done
        });
    }
}

/// What a registry tells, and the task that reads it: to read one anew takes longer than this loop may be kept waiting.
fn follow<T: DeserializeOwned + Send + 'static>(
    mut watch: RegistryWatch<T>,
) -> (EntryReceiver<T>, AbortOnDropHandle<()>) {
    let (sender, receiver) = mpsc::channel(64);
    let reading = tokio::spawn(async move {
        loop {
            let entry = watch.next().await;
            let is_over = entry.is_err();
            if sender.send(entry).await.is_err() || is_over {
                return;
            }
        }
    });
    (receiver, AbortOnDropHandle::new(reading))
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// The next tick of a clock that may not be there.
async fn tick_of(clock: &mut Option<Interval>) {
    match clock {
        Some(clock) => drop(clock.tick().await),
        None => std::future::pending().await,
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

/// A line for people about something that was decided.
fn decided(worker: &WorkerName, what: &str, why: &str) {
    info!(%worker, why, "{what}");
}
