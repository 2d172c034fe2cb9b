//! The owner task: builds its state, recovers, and handles one message after the other until the hive ends.

use std::{io, time::Instant};

use futures::StreamExt as _;
use rbee_nats::{Bus, Entry, Outbox, PortLeases, Registry};
use rbee_schema::{HiveEvent, HiveRecord, LeaderRecord, Protocol, StopMode};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::{JoinSet, spawn_blocking},
};

use super::{
    availability::{Availability, End},
    condition::Condition,
    files::publish_files,
    hive::Hive,
    machine::Machine,
    ports::Ports,
    report::Report,
    state::Supervisor,
    timing::{every, next_tick, wait_until},
    watches::{self, Reader},
    workers::Workers,
};
use crate::{
    config::{HiveConfig, HiveError},
    decide::{agreement::disagreement, lateness, ports::PortBook, worker::Event},
    http::Health,
    inventory::disk_free,
    ledger::{Ledger, LedgerWriter},
    limits::Enforcer,
    notify, output, stop_request,
    store::Store,
};

/// Runs a hive until `stop` holds a stop mode, then stops its workers. `health` is kept up to date meanwhile.
///
/// # Errors
/// When the hive cannot start, a newer hive of its name has started, or the connection to the bus is closed.
pub async fn run(
    config: HiveConfig,
    bus: Bus,
    health: watch::Sender<Health>,
    stop: watch::Receiver<Option<StopMode>>,
) -> Result<(), HiveError> {
    if !config.worker_program.is_file() {
        return Err(HiveError::NoWorkerProgram(config.worker_program));
    }
    let mut ledger = Ledger::open(&config.data, &config.name)?;
    let registered = Registry::hives(&bus).get(config.name.as_str()).await?;
    let seen = registered.as_ref().map_or(0, |record| record.epoch);
    if let Some(HiveRecord { host, pid, state_id, .. }) = registered
        && state_id != ledger.id()
    {
        return Err(HiveError::Runs { name: config.name, host, pid });
    }
    let epoch = ledger.next_epoch(seen)?;
    let entries = ledger.entries();
    let timers = &config.rules.timers;
    let mut supervisor = Supervisor {
        rules: config.rules.clone(),
        workers: Workers::default(),
        ports: Ports {
            book: PortBook::new(config.ports.clone(), timers.foreign_port),
            leases: PortLeases::new(&bus, &config.host, timers.port_lease),
        },
        store: Store::open(config.store.clone()).map_err(HiveError::Store)?,
        enforcer: Enforcer::detect(&config.name, ledger.id()),
        machine: Machine::new(bus.clock_skew_ms().await?),
        condition: Condition::default(),
        availability: Availability::new(health),
        tasks: JoinSet::new(),
        ledger: LedgerWriter::start(ledger),
        hive: Hive { outbox: Outbox::start(&bus), config, epoch, bus },
    };
    // Subscribed before the recovery, so that no heartbeat of an adopted worker is missed.
    let subjects = supervisor.hive.bus.namespace().clone();
    let name = supervisor.hive.config.name.clone();
    let events = supervisor.hive.bus.subscribe(subjects.worker_events_of(&name)).await?;
    let heartbeats = supervisor.hive.bus.subscribe(subjects.worker_heartbeats_of(&name)).await?;
    // Recovered before any command is received.
    let folder = supervisor.hive.config.store.folder.clone();
    let measured = spawn_blocking(move || disk_free(&folder)).await;
    supervisor.machine.disk_measured(measured.unwrap_or_else(|panicked| Err(io::Error::other(panicked))));
    supervisor.inspect_machine();
    supervisor.recover(entries).await?;
    publish_files(&supervisor.store, &supervisor.hive).await?;
    supervisor.serve(events, heartbeats, stop).await
}

impl Supervisor {
    async fn serve(
        mut self,
        mut worker_events: rbee_nats::Subscriber,
        mut heartbeats: rbee_nats::Subscriber,
        mut stop: watch::Receiver<Option<StopMode>>,
    ) -> Result<(), HiveError> {
        let (name, bus) = (self.hive.config.name.clone(), self.hive.bus.clone());
        let (mut leases, _leases) =
            watches::entries(Registry::ports(&bus).watch(&format!("{}.*", self.hive.config.host)).await?);
        let (mut records, _records) = watches::entries(Registry::workers(&bus).watch(&format!("{name}.*")).await?);
        let (mut files, _files) = watches::entries(Registry::files(&bus).watch(&format!("{name}.*")).await?);
        let (mut own_key, _own_key) = watches::entries(Registry::hives(&bus).watch(name.as_str()).await?);
        let (mut leader, _leader) = self.meet_leader().await?;
        let (mut commands, _commands) = watches::commands(&bus, &name).await?;
        let mut children = signal(SignalKind::child())?;
        let mut online = bus.online();
        let mut is_online = *online.borrow_and_update();
        let timers = &self.hive.config.rules.timers;
        let (mut heartbeat, mut presence, mut renewal) =
            (every(timers.beat), every(timers.presence), every(timers.lease_renewal));
        let (mut clock, mut health) = (every(lateness::TICK), every(timers.health));
        let mut watchdog = notify::watchdog_period().map(every);
        self.announce();
        while self.availability.end().is_none() {
            let deadline = self.next_deadline(is_online);
            tokio::select! {
                biased;
                // First: what a worker sent before its exit counts before its exit.
                Some(message) = heartbeats.next() => self.handle_worker_heartbeat(&message),
                Some(report) = self.tasks.join_next() => self.handle_report(report),
                Some(message) = worker_events.next() => self.handle_worker_event(&message),
                _ = children.recv() => self.check_frozen(),
                // Before the commands: a new leader ends the term of older commands.
                Some(entry) = leader.recv() => self.handle_leader(entry?),
                command = commands.recv() => match command {
                    Some(Ok(command)) => self.handle_command(command),
                    Some(Err(failure)) => self.hive.publish(HiveEvent::Refused { failure }),
                    None => return Err(HiveError::Closed),
                },
                Some(entry) = leases.recv() => self.handle_lease(entry?),
                Some(entry) = records.recv() => self.handle_worker_record(entry?),
                Some(entry) = files.recv() => self.handle_file_record(&entry?),
                Some(entry) = own_key.recv() => self.handle_own_key(entry?),
                // Before the deadlines: while the bus was away, missing heartbeats meant nothing.
                changed = online.changed() => if changed.is_ok() {
                    is_online = *online.borrow_and_update();
                    self.connection_changed(is_online);
                },
                // Before the deadlines: a late machine stretches them.
                _ = clock.tick() => self.handle_tick(),
                () = wait_until(deadline) => self.handle_deadlines(),
                _ = heartbeat.tick() => {
                    self.update_condition();
                    self.send_heartbeat(is_online).await;
                }
                _ = health.tick() => self.check_health(),
                _ = presence.tick() => self.publish_presence(),
                _ = renewal.tick() => self.renew(),
                () = next_tick(&mut watchdog) => notify::alive(),
                _ = stop_request::stop_requested(&mut stop) => break,
            }
        }
        let fenced = match self.availability.end() {
            Some(End::Fenced(by)) => Some(HiveError::Fenced { name, by: by.clone() }),
            Some(End::Commanded(_)) | None => None,
        };
        self.shut_down(&mut heartbeats, stop).await;
        fenced.map_or(Ok(()), Err)
    }

    /// Reads the record of the leading queen, where there is one, and returns a reader of its changes.
    async fn meet_leader(&mut self) -> Result<Reader<Result<Entry<LeaderRecord>, rbee_nats::BusError>>, HiveError> {
        let mut watch = Registry::leader(&self.hive.bus).watch(">").await?;
        loop {
            match watch.next().await? {
                Entry::Synced => return Ok(watches::entries(watch)),
                entry => {
                    if let Entry::Set { document, .. } = &entry {
                        self.check_leader(document)?;
                    }
                    self.handle_leader(entry);
                }
            }
        }
    }

    /// Refuses to start beside a leading queen with which this hive cannot work.
    fn check_leader(&self, leader: &LeaderRecord) -> Result<(), HiveError> {
        if leader.protocol.shared(Protocol::OURS).is_none() {
            return Err(HiveError::Incompatible { version: leader.version.clone(), theirs: leader.protocol });
        }
        disagreement(self.hive.config.rules.timers.beat, leader).map_or(Ok(()), |why| Err(HiveError::Unsuited(why)))
    }

    pub(super) fn next_deadline(&self, is_online: bool) -> Option<Instant> {
        // Without a connection to the bus, no heartbeat can be received.
        if !is_online {
            return None;
        }
        let worker = self.workers.next_deadline(&self.rules.timers);
        let strain = self.condition.strain.next_change(&self.rules);
        [worker, strain, self.availability.evacuation_deadline()].into_iter().flatten().min()
    }

    pub(super) fn handle_deadlines(&mut self) {
        let now = Instant::now();
        for worker in self.workers.overdue(now, &self.rules.timers) {
            self.step(&worker, Event::DeadlinePassed);
        }
        if let Some(evacuation) = self.availability.take_overdue(now) {
            self.stop_all(&evacuation.why, self.availability.drain_mode());
        }
        self.update_condition();
    }

    /// Renews the leases of ports, and rotates large logs.
    fn renew(&mut self) {
        self.renew_leases();
        self.compare_with_registries();
        let workers = self.workers.keys().map(|worker| output::log_file(&self.hive.config.data, worker));
        let logs: Vec<_> = workers.chain([self.ledger.own_log()]).collect();
        let limit = self.hive.config.rules.bounds.log_size;
        self.tasks.spawn_blocking(move || {
            logs.iter().for_each(|log| output::rotate(log, limit));
            Report::Done
        });
    }
}
