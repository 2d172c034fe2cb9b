//! The owner task of a hive: recovers, and handles one event after the other.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use rbee_hive::decide::{
    lateness::{Lateness, TICK, Tick},
    ports::PortBook,
    worker::{Event as Happened, ProcessExit, Worker},
};
use rbee_nats::CommandIssuer;
use rbee_schema::{ByteSize, HiveCommand, HiveHeartbeat, HiveRecord, Labels, Protocol, WorkerName, WorkerPhase};

use super::{
    ledger::Machine,
    state::{Event, Managed, Supervisor},
};
use crate::{
    broker::{AckKind, Answer, ConsumerConfig, Op, Pull},
    network::{Arrival, Connection},
    node::{
        child::{ChildNews, Exit},
        outbox::Outbox,
        site::Site,
    },
    runtime::{Mailbox, Process},
    words::{Body, Report},
};

/// Time that one pull for commands waits.
const PULL: Duration = Duration::from_secs(5);

/// Redelivery timeout of a command.
const ACK_WAIT: Duration = Duration::from_secs(10);

/// Time after which the server removes an unused consumer of commands.
const UNUSED: Duration = Duration::from_secs(60 * 60);

/// A hive process.
#[derive(Debug, Clone)]
pub struct Hive {
    machine: Machine,
    process: Process,
}

impl Hive {
    /// Starts a hive on a machine.
    pub fn start(site: &Site, machine: &Machine) -> Self {
        let process = Process::begin(&site.runtime, &format!("hive/{}", machine.hive));
        let connection = site.network.connect(&process);
        let epoch = {
            let mut ledger = machine.ledger.borrow_mut();
            ledger.epoch += 1;
            ledger.epoch
        };
        let supervisor = Supervisor {
            site: site.clone(),
            machine: machine.clone(),
            process: process.clone(),
            outbox: Outbox::start(&connection),
            connection,
            mailbox: Mailbox::default(),
            epoch,
            rules: site.settings.hive.clone(),
            workers: BTreeMap::new(),
            book: PortBook::new(machine.ports.0..=machine.ports.1, site.settings.hive.timers.foreign_port),
            lateness: Lateness::default(),
            ticked: process.now(),
            is_online: true,
        };
        process.spawn(supervisor.run());
        Self { machine: machine.clone(), process }
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Kills the hive (SIGKILL). Its workers keep running.
    pub fn kill(&self, site: &Site) {
        site.network.ended(&self.process);
        self.process.end();
    }
}

impl Supervisor {
    async fn run(mut self) {
        self.listen();
        self.recover().await;
        self.watch_registries();
        self.process.spawn(receive_commands(self.connection.clone(), self.machine.clone(), self.mailbox.clone()));
        let timers = self.site.settings.hive.timers.clone();
        let (mut beat, mut presence) = (self.process.now(), self.process.now());
        let mut renewal = self.process.now() + timers.lease_renewal;
        self.ticked = self.process.now();
        loop {
            let due = [beat, presence, renewal].into_iter().chain(self.next_deadline()).min();
            let first = self.mailbox.next(&self.process, due).await;
            let mut events: Vec<Event> = first.into_iter().collect();
            while let Some(event) = self.mailbox.take() {
                events.push(event);
            }
            events.sort_by_key(Event::rank);
            for event in events {
                self.handle(event);
            }
            let now = self.process.now();
            self.tick(due.unwrap_or(now));
            if self.is_online {
                self.handle_deadlines();
            }
            if now >= beat {
                self.send_heartbeat();
                beat = now + timers.beat;
            }
            if now >= presence {
                self.publish_presence();
                presence = now + timers.presence;
            }
            if now >= renewal {
                self.renew_leases();
                self.compare_with_registries();
                renewal = now + timers.lease_renewal;
            }
        }
    }

    fn listen(&self) {
        let (hive, mailbox) = (&self.machine.hive, self.mailbox.clone());
        self.connection.subscribe(format!("beat.{hive}.*"), move |arrived| {
            if let Arrival::Message(message) = arrived
                && let Some(Body::Beat(beat)) = message.body
            {
                mailbox.put(Event::Beat(beat.1.clone(), beat));
            }
        });
        let mailbox = self.mailbox.clone();
        self.connection.subscribe(format!("word.{hive}"), move |arrived| {
            if let Arrival::Message(message) = arrived
                && let Some(Body::Report(report)) = message.body
            {
                mailbox.put(Event::Report(report.0.clone(), report.1, report.2));
            }
        });
        let mailbox = self.mailbox.clone();
        self.connection.on_change(move |is_online| mailbox.put(Event::Online(is_online)));
    }

    fn watch_registries(&self) {
        let mailbox = self.mailbox.clone();
        self.connection.watch("ports", format!("ports.{}.*", self.machine.host), move |arrived| {
            let Arrival::Message(message) = arrived else { return };
            let port = message.subject.rsplit_once('.').and_then(|(_, port)| port.parse().ok());
            let Some(port) = port else { return };
            let lease = match message.body {
                Some(Body::Lease(lease)) => Some((*lease).clone()),
                _ => None,
            };
            mailbox.put(Event::Lease { port, lease });
        });
        let mailbox = self.mailbox.clone();
        self.connection.watch("workers", format!("workers.{}.*", self.machine.hive), move |arrived| {
            let Arrival::Message(message) = arrived else { return };
            let worker = message.subject.rsplit_once('.').and_then(|(_, worker)| worker.parse().ok());
            if let (Some(worker), None) = (worker, message.body) {
                mailbox.put(Event::RecordGone(worker));
            }
        });
        let mailbox = self.mailbox.clone();
        self.connection.watch("queen", "queen.leader", move |arrived| {
            let Arrival::Message(message) = arrived else { return };
            if let (Some(Body::Leader(leader)), Some(sequence)) = (message.body, message.sequence) {
                mailbox.put(Event::Leader(leader.term.unwrap_or(sequence)));
            }
        });
    }

    fn next_deadline(&self) -> Option<std::time::Instant> {
        if !self.is_online {
            return None;
        }
        self.workers.values().filter_map(|managed| managed.worker.deadline(&self.rules.timers)).min()
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Beat(worker, beat) => {
                let beat = &beat.2;
                let (jobs, steps, blocked) = (beat.jobs.clone(), beat.steps, beat.blocked);
                self.step(&worker, Happened::Heartbeat { epoch: beat.epoch, jobs, steps, blocked });
            }
            Event::Report(worker, epoch, Report::Ready) => self.step(&worker, Happened::Ready { epoch }),
            Event::Report(worker, epoch, Report::Loading { done, total }) => {
                self.step(&worker, Happened::Loading { epoch, done_bytes: done, total_bytes: total });
            }
            Event::News(worker, _, ChildNews::Froze) => self.step(&worker, Happened::Frozen),
            Event::News(worker, epoch, ChildNews::Ended(exit)) => self.wait_for_last_beat(worker, epoch, exit),
            Event::Exited(worker, epoch, exit) => self.exited(&worker, epoch, exit),
            Event::Launched(worker, launched) => self.launched(&worker, launched),
            Event::Released { port, worker, revision, frees } => self.released(port, &worker, revision, frees),
            Event::Renewed { lease, port, revision } => self.renewed(&lease, port, revision),
            Event::Lease { port, lease } => self.lease_changed(port, lease),
            Event::LeaseFound { port, found } => self.lease_found(port, found),
            Event::RecordGone(worker) => self.write_record(&worker),
            Event::RecordFound(worker) => {
                if !self.workers.contains_key(&worker) {
                    self.outbox.remove(self.record_key(&worker));
                }
            }
            Event::Registered(registered) => self.mend(&registered),
            Event::Command(command) => self.command(&command),
            Event::Leader(term) => {
                let mut ledger = self.machine.ledger.borrow_mut();
                ledger.term = ledger.term.max(term);
            }
            Event::Online(is_online) => {
                self.is_online = is_online;
                if is_online {
                    self.excuse_workers();
                    self.compare_with_registries();
                }
            }
        }
    }

    /// A round trip to the server makes sure that the last heartbeat of the process is here.
    fn wait_for_last_beat(&self, worker: WorkerName, epoch: u64, exit: Exit) {
        let (connection, mailbox) = (self.connection.clone(), self.mailbox.clone());
        let limit = self.site.settings.hive.timers.last_beat;
        self.process.spawn(async move {
            let _ = connection.round_trip(limit).await;
            mailbox.put(Event::Exited(worker, epoch, exit));
        });
    }

    fn exited(&mut self, worker: &WorkerName, epoch: u64, Exit { code, signal }: Exit) {
        if self.workers.get(worker).is_none_or(|managed| managed.worker.epoch != epoch) {
            return;
        }
        let draw = self.site.runtime.draw(fastrand::Rng::f64);
        self.step(worker, Happened::Exited(ProcessExit { code, signal, draw, ..ProcessExit::default() }));
    }

    fn command(&mut self, command: &Rc<(HiveCommand, CommandIssuer)>) {
        if let CommandIssuer::Leader(term) = command.1 {
            let mut ledger = self.machine.ledger.borrow_mut();
            if term < ledger.term {
                return self.process.log(|| format!("refuses a command of term {term}"));
            }
            ledger.term = term;
        }
        match command.0.clone() {
            HiveCommand::Spawn { worker, model, spec } => {
                if let Some(managed) = self.workers.get(&worker) {
                    if managed.worker.phase() == WorkerPhase::Failed {
                        self.step(&worker, Happened::Reset);
                    }
                    return;
                }
                let lease = self.lease_for(&worker);
                let (state, effects) = Worker::new(worker.clone(), model, spec);
                self.workers.insert(worker.clone(), Managed::new(state, lease));
                self.carry_out(&worker, effects);
            }
            HiveCommand::Stop { worker, why, mode } if self.workers.contains_key(&worker) => {
                self.step(&worker, Happened::Stop { why, mode });
            }
            HiveCommand::Stop { worker, .. } => self.outbox.remove(self.record_key(&worker)),
            HiveCommand::Reset { worker } => self.step(&worker, Happened::Reset),
            HiveCommand::Drain { .. }
            | HiveCommand::Resume
            | HiveCommand::Shutdown { .. }
            | HiveCommand::Fetch { .. }
            | HiveCommand::RemoveFile { .. } => {}
        }
    }

    /// Ticks of the clock since the last call. The hive slept until `due` at most, so a later wake-up means that it stood still.
    fn tick(&mut self, due: std::time::Instant) {
        let now = self.process.now();
        let mut stood_still = false;
        while self.ticked + TICK <= now {
            let on_time = self.ticked + TICK;
            self.ticked = if on_time <= due || now < due + TICK { on_time } else { now };
            stood_still |= self.lateness.tick(self.ticked) == Tick::StoodStill;
        }
        self.rules.timers = self.site.settings.hive.timers.stretched(self.lateness.stretch());
        if stood_still {
            self.process.log(|| "stood still".to_owned());
            self.excuse_workers();
        }
    }

    fn excuse_workers(&mut self) {
        let names: Vec<WorkerName> = self.workers.keys().cloned().collect();
        for worker in names {
            self.step(&worker, Happened::ObservationGap);
        }
    }

    fn handle_deadlines(&mut self) {
        let now = self.process.now();
        let is_over =
            |managed: &Managed| managed.worker.deadline(&self.rules.timers).is_some_and(|deadline| deadline <= now);
        let overdue: Vec<WorkerName> =
            self.workers.iter().filter(|(_, managed)| is_over(managed)).map(|(name, _)| name.clone()).collect();
        for worker in overdue {
            self.step(&worker, Happened::DeadlinePassed);
        }
    }

    fn send_heartbeat(&self) {
        if !self.is_online {
            return;
        }
        let running = self.workers.values().filter(|managed| managed.run.is_some()).count();
        let beat = HiveHeartbeat {
            epoch: self.epoch,
            workers: u32::try_from(running).unwrap_or(u32::MAX),
            ports_leased: self.book.in_use(),
            ports_total: self.book.total(),
            late_ms: 0,
            free: None,
        };
        let hive = self.machine.hive.clone();
        self.connection.publish(format!("beat.{hive}"), Body::HiveBeat((hive, beat).into()));
    }

    fn publish_presence(&self) {
        if !self.is_online {
            return;
        }
        let Machine { hive, host, ports, .. } = &self.machine;
        let record = HiveRecord {
            epoch: self.epoch,
            version: String::new(),
            host: host.clone(),
            first_port: ports.0,
            last_port: ports.1,
            pid: u32::try_from(self.process.number()).unwrap_or(u32::MAX),
            state_id: hive.to_string(),
            draining: false,
            degraded: None,
            memory: ByteSize(64 << 30),
            cores: 8,
            limit_method: None,
            metrics: None,
            protocol: Protocol::OURS,
            labels: Labels::new(),
            devices: Vec::new(),
            kinds: Vec::new(),
            max_workers: Some(16),
            clock_skew_ms: 0,
        };
        let lapse = self.site.settings.hive.timers.presence_lapse;
        self.outbox.put(format!("hives.{hive}"), Body::Hive(record.into()), Some(lapse));
    }
}

/// Pulls the commands to a hive, one at a time.
async fn receive_commands(connection: Connection, machine: Machine, mailbox: Mailbox<Event>) {
    let process = connection.process().clone();
    let name: Rc<str> = format!("hive={}", machine.hive).into();
    let arrived = Mailbox::default();
    let sender = arrived.clone();
    let sid = connection.subscribe(format!("commands.{}", process.number()), move |arrived| sender.put(arrived));
    let mut is_open = false;
    loop {
        if !is_open {
            let config = ConsumerConfig {
                name: name.clone(),
                filter: format!("cmd.{}", machine.hive).into(),
                ack_wait: ACK_WAIT,
                unused: UNUSED,
            };
            let stream = "commands".into();
            let opened = connection.request(|request| Op::OpenConsumer { stream, config, request }).await;
            is_open = matches!(opened, Ok(Answer::Done));
            if !is_open {
                process.sleep(Duration::from_secs(1)).await;
                continue;
            }
        }
        let (stream, consumer, tag) = ("commands".into(), name.clone(), "".into());
        connection.send(Op::Pull(Pull { stream, consumer, sid, tag, priority: 0, expires: Some(PULL) }));
        let due = process.now() + PULL + Duration::from_secs(1);
        match arrived.next(&process, Some(due)).await {
            Some(Arrival::Message(message)) => {
                let (Some(Body::Command(command)), Some(delivered)) = (message.body, message.delivered) else {
                    continue;
                };
                connection.send(Op::Acknowledge { reply: delivered.reply, kind: AckKind::Ack, request: None });
                mailbox.put(Event::Command(command));
            }
            Some(Arrival::Status(_, crate::broker::Status::Timeout)) => {}
            Some(Arrival::Status(..)) | None => is_open = false,
        }
    }
}
