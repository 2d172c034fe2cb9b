//! The one task of a hive that owns its workers: it hears, lets [`decide`](crate::decide) decide, and does. Step 3 of
//! a job's path.
//!
//! Whatever takes time (starting a process, waiting for its exit, a request to the bus) is a task of its own that
//! reports back here as a [`Report`], so that nothing delays the notice of a dead worker.

mod effects;
mod shutdown;

use std::{
    collections::BTreeMap,
    io,
    ops::RangeInclusive,
    path::PathBuf,
    process::ExitStatus,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::StreamExt as _;
use rbee_nats::{Bus, BusError, Commands, Entry, Message, Outbox, PortClaim, PortLeases, Registry, Subject};
use rbee_schema::{
    Event as BusEvent, Failure, HiveBeat, HiveCommand, HiveEvent, HiveName, HiveRecord, HostName, ModelName, ModelSpec,
    PortEvent, PortLease, WorkerBeat, WorkerEvent, WorkerName, WorkerRecord,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Interval, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{debug, error, info, warn};

use crate::{
    decide::{
        ports::PortBook,
        worker::{Event, Worker},
    },
    launch::Launched,
    output,
    process::{self, Handle},
    recover,
};

/// How often a hive says that it is there.
const BEAT: Duration = Duration::from_secs(1);

/// How often its key is renewed, and when the key lapses: two renewals may be lost.
const PRESENCE: Duration = Duration::from_secs(5);
const PRESENCE_TIME_TO_LIVE: Duration = Duration::from_secs(15);

/// How often leases are renewed. They live for eleven times as long.
const RENEW: Duration = Duration::from_secs(60);

/// How long a worker may finish its jobs when one worker is stopped.
const DRAIN: Duration = Duration::from_secs(30);

/// Who a hive is and what it may use.
#[derive(Debug, Clone)]
pub struct HiveConfig {
    /// Its name.
    pub name: HiveName,
    /// Its machine: port numbers are unique there.
    pub host: HostName,
    /// The ports that it may lease.
    pub ports: RangeInclusive<u16>,
    /// Where it keeps its workers' output.
    pub data: PathBuf,
    /// The worker program.
    pub worker_program: PathBuf,
    /// The server that workers are told to use.
    pub nats_url: String,
}

/// A hive that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum HiveError {
    /// The worker program is not there.
    #[error(
        "no worker program at {}: build it with `cargo build -p rbee-worker`, or name another with --worker-program",
        .0.display()
    )]
    NoWorkerProgram(PathBuf),
    /// The bus does not do what it must.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The connection to the bus was closed under it.
    #[error("the connection to the bus is closed")]
    Closed,
}

type CommandReceiver = mpsc::Receiver<Result<HiveCommand, Failure>>;

/// What tasks report to the owner.
enum Report {
    Launched(WorkerName, Launched),
    Exited(WorkerName, io::Result<ExitStatus>),
    Released { worker: WorkerName, port: u16, why: String, revision: Option<u64> },
    Renewed(WorkerName, PortClaim),
    Done,
}

/// A worker with what only the shell around it has.
struct Charge {
    worker: Worker,
    process: Option<Handle>,
    claim: Option<PortClaim>,
    lease: PortLease,
    written: Option<WorkerRecord>,
}

struct Supervisor {
    config: HiveConfig,
    epoch: u64,
    bus: Bus,
    outbox: Outbox,
    records: Registry<WorkerRecord>,
    leases: PortLeases,
    ports: PortBook,
    charges: BTreeMap<WorkerName, Charge>,
    tasks: JoinSet<Report>,
}

/// Runs a hive until `stop` is cancelled, then stops its workers and tells how that went.
///
/// # Errors
/// When it cannot begin, or the bus is closed under it.
pub async fn run(config: HiveConfig, bus: Bus, stop: CancellationToken) -> Result<(), HiveError> {
    if !config.worker_program.is_file() {
        return Err(HiveError::NoWorkerProgram(config.worker_program));
    }
    recover::bury(&bus, &config.name, &config.host).await?;
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let outbox = Outbox::start(&bus);
    let supervisor = Supervisor {
        epoch: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
        records: Registry::workers(&bus),
        leases: PortLeases::of(&bus, &config.host),
        ports: PortBook::new(config.ports.clone()),
        charges: BTreeMap::new(),
        tasks: JoinSet::new(),
        outbox,
        bus,
        config,
    };
    supervisor.run(stop).await
}

impl Supervisor {
    async fn run(mut self, stop: CancellationToken) -> Result<(), HiveError> {
        let namespace = self.bus.namespace().clone();
        let mut words = self.bus.subscribe(namespace.worker_events_of(&self.config.name)).await?;
        let mut beats = self.bus.subscribe(namespace.worker_beats_of(&self.config.name)).await?;
        let mut leases = Registry::ports(&self.bus).watch(&format!("{}.*", self.config.host)).await?;
        let (mut commands, _listening) = self.listen_for_commands().await?;
        let mut online = self.bus.online();
        let (mut beat, mut presence, mut renew) = (ticks(BEAT), ticks(PRESENCE), ticks(RENEW));
        self.join();
        loop {
            let deadline = self.next_deadline(*online.borrow());
            tokio::select! {
                biased;
                Some(report) = self.tasks.join_next() => self.report(report),
                Some(message) = beats.next() => self.hear_beat(&message),
                Some(message) = words.next() => self.hear_word(&message),
                command = commands.recv() => match command {
                    Some(Ok(command)) => self.obey(command),
                    Some(Err(failure)) => self.publish(HiveEvent::Refused { failure }),
                    None => return Err(HiveError::Closed),
                },
                entry = leases.next() => self.hear_lease(entry?),
                () = wait_until(deadline) => self.wake(),
                _ = beat.tick() => self.beat().await,
                _ = presence.tick() => self.show_presence(),
                _ = renew.tick() => self.renew_leases(),
                changed = online.changed() => if changed.is_ok() && *online.borrow() { self.bus_is_back() },
                () = stop.cancelled() => break,
            }
        }
        self.shut_down(&mut beats).await;
        Ok(())
    }

    /// The commands as they come, and the task that receives them: it ends with its handle.
    async fn listen_for_commands(&self) -> Result<(CommandReceiver, AbortOnDropHandle<()>), BusError> {
        let mut commands = Commands::of(&self.bus, &self.config.name).await?;
        // A few commands may wait while one is carried out; the rest waits on the bus.
        let (sender, receiver) = mpsc::channel(8);
        let receiving = tokio::spawn(async move {
            loop {
                let sent = match commands.next().await {
                    Ok(Some(command)) => sender.send(command).await,
                    Ok(None) => Ok(()),
                    Err(error) => {
                        warn!(%error, "commands cannot be received; trying again");
                        tokio::time::sleep(BEAT).await;
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

    // What is told to the bus.

    fn publish(&self, event: HiveEvent) {
        self.outbox.publish(&BusEvent::Hive(self.config.name.clone(), event));
    }

    fn publish_port(&self, port: u16, event: PortEvent) {
        self.outbox.publish(&BusEvent::Port(self.config.name.clone(), port, event));
    }

    fn join(&self) {
        let HiveConfig { name, host, ports, .. } = &self.config;
        let (first_port, last_port) = (*ports.start(), *ports.end());
        self.show_presence();
        self.publish(HiveEvent::Joined {
            epoch: self.epoch,
            version: version(),
            host: host.clone(),
            first_port,
            last_port,
        });
        info!(hive = %name, first_port, last_port, "the hive takes commands");
    }

    fn show_presence(&self) {
        let record = HiveRecord {
            epoch: self.epoch,
            version: version(),
            host: self.config.host.clone(),
            first_port: *self.config.ports.start(),
            last_port: *self.config.ports.end(),
        };
        let key = self.config.name.as_str();
        Registry::hives(&self.bus).put_by(&self.outbox, key, &record, Some(PRESENCE_TIME_TO_LIVE));
    }

    async fn beat(&self) {
        let workers = self.charges.values().filter(|charge| charge.process.is_some()).count();
        let beat = HiveBeat {
            epoch: self.epoch,
            workers: u32::try_from(workers).unwrap_or(u32::MAX),
            ports_leased: self.ports.in_use(),
            ports_total: self.ports.total(),
        };
        if let Err(error) = self.bus.tell(&Subject::HiveBeat(self.config.name.clone()), &beat).await {
            debug!(%error, "a heartbeat is lost");
        }
    }

    // What is heard.

    fn obey(&mut self, command: HiveCommand) {
        match command {
            HiveCommand::Spawn { worker, model, spec } => self.spawn(worker, model, spec),
            HiveCommand::Stop { worker, why } if self.charges.contains_key(&worker) => {
                self.step(&worker, Event::Stop { why, drain: DRAIN });
            }
            HiveCommand::Stop { worker, .. } => {
                // It is gone already, or its record is a leftover.
                self.records.remove_by(&self.outbox, &self.key(&worker));
            }
        }
    }

    fn spawn(&mut self, name: WorkerName, model: ModelName, spec: ModelSpec) {
        if self.charges.contains_key(&name) {
            return debug!(worker = %name, "a spawn was commanded twice");
        }
        if let Err(failure) = spec.check() {
            return self.publish(HiveEvent::Refused { failure });
        }
        info!(worker = %name, %model, "a worker is wanted");
        let lease = PortLease { hive: self.config.name.clone(), hive_epoch: self.epoch, worker: name.clone() };
        let (worker, effects) = Worker::new(name.clone(), model, spec);
        self.charges.insert(name.clone(), Charge { worker, process: None, claim: None, lease, written: None });
        self.carry_out(&name, effects);
    }

    fn hear_word(&mut self, message: &Message) {
        let Some(Subject::WorkerEvent(_, worker, name)) = self.bus.parse(&message.subject) else { return };
        if name != "loading" && name != "ready" {
            return; // The rest of its story is told by us.
        }
        let event = match serde_json::from_slice(&message.payload) {
            Ok(WorkerEvent::Loading { epoch, .. }) => Event::Loading { epoch },
            Ok(WorkerEvent::Ready { epoch, .. }) => Event::Ready { epoch },
            Ok(_) => return,
            Err(error) => return warn!(%worker, %error, "an event of a worker cannot be read"),
        };
        self.step(&worker, event);
    }

    fn hear_beat(&mut self, message: &Message) {
        let Some(Subject::WorkerBeat(_, worker)) = self.bus.parse(&message.subject) else { return };
        match serde_json::from_slice::<WorkerBeat>(&message.payload) {
            Ok(WorkerBeat { epoch, jobs, .. }) => self.step(&worker, Event::Beat { epoch, jobs }),
            Err(error) => warn!(%worker, %error, "a heartbeat of a worker cannot be read"),
        }
    }

    fn hear_lease(&mut self, entry: Entry<PortLease>) {
        let port = |key: &str| key.rsplit_once('.').and_then(|(_, port)| port.parse().ok());
        match entry {
            Entry::Set(key, lease) if lease.hive != self.config.name => {
                if let Some(port) = port(&key) {
                    self.ports.leased_by(port, lease.hive);
                }
            }
            Entry::Gone(key) => {
                if let Some(port) = port(&key) {
                    self.ports.released_by_other(port);
                }
            }
            Entry::Set(..) | Entry::Unreadable(..) | Entry::Current => {}
        }
    }

    fn report(&mut self, report: Result<Report, tokio::task::JoinError>) {
        let report = match report {
            Ok(report) => report,
            Err(error) => return error!(%error, "a task of the hive panicked"),
        };
        match report {
            Report::Launched(worker, launched) => self.launched(&worker, launched),
            Report::Exited(worker, status) => {
                let (code, signal) = status.map(process::code_and_signal).unwrap_or_default();
                let tail = output::tail(&output::log_file(&self.config.data, &worker));
                info!(%worker, code, signal, "a worker process ended");
                self.step(&worker, Event::Exited { code, signal, tail });
            }
            Report::Released { worker, port, why, revision } => {
                self.ports.give_back(port, revision);
                let in_use = self.ports.in_use();
                self.publish_port(port, PortEvent::Released { worker, in_use, why });
            }
            Report::Renewed(worker, claim) => {
                if let Some(charge) = self.charges.get_mut(&worker)
                    && charge.claim.is_some_and(|held| held.port == claim.port)
                {
                    charge.claim = Some(claim);
                }
            }
            Report::Done => {}
        }
    }

    fn launched(&mut self, name: &WorkerName, launched: Launched) {
        let skip = |port: u16, why: String| (port, PortEvent::Skipped { worker: name.clone(), why });
        match launched {
            Launched::Running { process, mut child, claim } => {
                let (pid, port) = (process.pid(), claim.port);
                let in_use = self.ports.in_use();
                let why = "the lowest free port".to_owned();
                self.publish_port(port, PortEvent::Leased { worker: name.clone(), in_use, why });
                let worker = name.clone();
                self.tasks.spawn(async move { Report::Exited(worker, child.wait().await) });
                if let Some(charge) = self.charges.get_mut(name) {
                    charge.process = Some(process);
                    charge.claim = Some(claim);
                }
                self.step(name, Event::Started { pid, port });
            }
            Launched::Held { port, by } => {
                let (port, event) = skip(port, format!("hive {by} has leased it"));
                self.ports.lost_to(port, by);
                self.publish_port(port, event);
                self.start(name);
            }
            Launched::Foreign { port, cause } => {
                let (port, event) = skip(port, format!("a program that is none of ours has it: {cause}"));
                self.ports.is_foreign(port, Instant::now());
                self.publish_port(port, event);
                self.start(name);
            }
            Launched::Failed { port, revision, doing, cause } => {
                self.ports.give_back(port, revision);
                self.step(name, Event::not_started(doing, cause));
            }
        }
    }

    fn bus_is_back(&mut self) {
        self.show_presence();
        for worker in self.charges.keys().cloned().collect::<Vec<_>>() {
            self.step(&worker, Event::BusBack);
        }
    }

    fn next_deadline(&self, online: bool) -> Option<Instant> {
        // While the bus is away a worker's silence is not its own.
        online.then(|| self.charges.values().filter_map(|charge| charge.worker.deadline()).min()).flatten()
    }

    fn wake(&mut self) {
        let now = Instant::now();
        let due = |charge: &Charge| charge.worker.deadline().is_some_and(|deadline| deadline <= now);
        let due: Vec<_> = self.charges.iter().filter(|(_, charge)| due(charge)).map(|(name, _)| name.clone()).collect();
        for worker in due {
            self.step(&worker, Event::DeadlinePassed);
        }
    }
}

fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
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
