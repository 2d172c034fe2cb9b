//! What a hive hears: commands, its workers, leases, and the reports of its own tasks.

use std::time::{Duration, Instant};

use rbee_nats::trace::TraceContext;
use rbee_nats::{CommandIssuer, Entry, IssuedCommand, Message, PortClaim, Subject};
use rbee_schema::{
    Failure, FailureCode, HiveCommand, HiveEvent, HiveRecord, LeaderRecord, ModelName, ModelSpec, PortEvent, PortLease,
    StopMode, WorkerEvent, WorkerHeartbeat, WorkerName, WorkerPhase,
};
use tokio::task::JoinError;
use tracing::{debug, error, info, warn};

use super::{Charge, End, Report, Supervisor, number, trace::Spawning};
use crate::{
    decide::{
        agreement::disagreement,
        worker::{Ended, Event, Worker},
    },
    http::Health,
    launch::Launched,
    limits::{self, Cage},
    metrics, output,
    process::ExitStatus,
};

impl Supervisor {
    /// Obeys, unless it is the word of a queen whose term is over.
    pub(super) fn hear_order(&mut self, order: IssuedCommand) {
        if let CommandIssuer::Leader(term) = order.issuer {
            if term < self.ledger.term() {
                return self.refuse_stale(format!(
                    "a command of term {term} came, and a queen leads in term {}: she commands again what she wants",
                    self.ledger.term()
                ));
            }
            self.has_term(term);
        }
        self.obey(order.command, order.trace);
    }

    /// A queen leads, or none does for now.
    pub(super) fn hear_leader(&mut self, entry: Entry<LeaderRecord>) {
        match entry {
            Entry::Set { document, revision, .. } => {
                self.has_leader = true;
                let disagreement = disagreement(self.config.rules.timers.beat, &document);
                if std::mem::replace(&mut self.disagreement, disagreement.clone()) != disagreement {
                    self.look_at_strain();
                }
                self.has_term(document.term.unwrap_or(revision));
            }
            Entry::Unreadable(key, error) => warn!(key, error, "who leads cannot be read"),
            Entry::Removed(_) => self.has_leader = false,
            Entry::Synced => {}
        }
    }

    fn has_term(&mut self, term: u64) {
        if let Err(error) = self.ledger.has_term(term) {
            warn!(term, %error, "the ledger cannot be written: the next run of this hive may obey a queen of the past");
        }
    }

    fn obey(&mut self, command: HiveCommand, trace: Option<TraceContext>) {
        match command {
            HiveCommand::Spawn { worker, model, spec } => self.spawn(worker, model, spec, trace),
            HiveCommand::Stop { worker, why, mode } if self.charges.contains_key(&worker) => {
                self.step(&worker, Event::Stop { why, mode });
            }
            HiveCommand::Stop { worker, .. } => {
                // It is gone already, or its record is a leftover.
                self.records.remove_ordered(&self.outbox, &self.key(&worker));
                self.refuse_unknown(&worker);
            }
            HiveCommand::Reset { worker } if self.charges.contains_key(&worker) => self.step(&worker, Event::Reset),
            HiveCommand::Reset { worker } => self.refuse_unknown(&worker),
            HiveCommand::Drain { why } => self.drain_all(why),
            HiveCommand::Resume => {
                info!("the hive takes workers again");
                self.draining = false;
                self.drains_at = None;
                self.health.send_replace(Health::Online);
                self.publish(HiveEvent::Resumed {});
                self.show_presence();
            }
            HiveCommand::Shutdown { why, epoch } => match epoch.filter(|epoch| *epoch != self.epoch) {
                None => self.end = Some(End::Commanded(why)),
                Some(meant) => self.refuse_stale(format!("run {meant} was to end, and this is run {}", self.epoch)),
            },
            HiveCommand::Fetch { reference } => self.fetch(reference),
            HiveCommand::RemoveFile { reference } => self.remove_file(reference),
        }
    }

    fn refuse_stale(&self, message: String) {
        metrics::stale_command();
        self.publish(HiveEvent::Refused { failure: Failure::new(FailureCode::StaleCommand, message) });
    }

    fn refuse_unknown(&self, worker: &WorkerName) {
        let message = format!("there is no worker {worker} on this hive; `rbee ps` lists those that are there");
        self.publish(HiveEvent::Refused { failure: Failure::new(FailureCode::UnknownWorker, message) });
    }

    fn spawn(&mut self, name: WorkerName, model: ModelName, spec: ModelSpec, trace: Option<TraceContext>) {
        if let Some(charge) = self.charges.get(&name) {
            if charge.worker.phase() != WorkerPhase::Failed {
                return debug!(worker = %name, "a spawn was commanded twice");
            }
            return self.step(&name, Event::Reset);
        }
        if let Err(failure) = spec.check() {
            return self.publish(HiveEvent::Refused { failure });
        }
        let spawning = Spawning::begin(&self.config.name, &name, &model, trace);
        let lease = PortLease { hive: self.config.name.clone(), hive_epoch: self.epoch, worker: name.clone() };
        let (worker, effects) = Worker::new(name.clone(), model, spec);
        let charge = Charge { spawning: Some(spawning), ..Charge::new(worker, lease) };
        self.charges.insert(name.clone(), charge);
        self.carry_out(&name, effects);
    }

    fn drain_all(&mut self, why: String) {
        info!(why, workers = self.charges.len(), "the hive takes no further workers and drains");
        self.draining = true;
        self.health.send_replace(Health::Draining);
        self.publish(HiveEvent::Draining { why: why.clone(), workers: number(self.charges.len()) });
        self.show_presence();
        if self.has_leader {
            // The queen starts others in their place, and stops each when it is no longer needed.
            self.drains_at = Some((Instant::now() + self.config.rules.timers.evacuate, why));
        } else {
            self.stop_all(&why, StopMode::Drain);
        }
    }

    pub(super) fn stop_all(&mut self, why: &str, mode: StopMode) {
        for worker in self.charges.keys().cloned().collect::<Vec<_>>() {
            self.step(&worker, Event::Stop { why: why.to_owned(), mode });
        }
    }

    pub(super) fn hear_word(&mut self, message: &Message) {
        let Some(Subject::WorkerEvent(_, worker, name)) = self.bus.parse(&message.subject) else { return };
        if name != "loading" && name != "ready" {
            return; // The rest of its story is told by us.
        }
        let event = match serde_json::from_slice(&message.payload) {
            Ok(WorkerEvent::Loading { epoch, done_bytes, total_bytes, .. }) => {
                Event::Loading { epoch, done_bytes, total_bytes }
            }
            Ok(WorkerEvent::Ready { epoch, load_ms, .. }) => {
                metrics::loaded(Duration::from_millis(load_ms));
                if let Some(asked) = self.charges.get(&worker).and_then(|charge| charge.asked) {
                    metrics::became_ready(asked.elapsed());
                }
                Event::Ready { epoch }
            }
            Ok(_) => return,
            Err(error) => return warn!(%worker, %error, "an event of a worker cannot be read"),
        };
        self.step(&worker, event);
    }

    pub(super) fn hear_beat(&mut self, message: &Message) {
        let Some(Subject::WorkerHeartbeat(_, worker)) = self.bus.parse(&message.subject) else { return };
        match serde_json::from_slice::<WorkerHeartbeat>(&message.payload) {
            Ok(WorkerHeartbeat { epoch, jobs, steps, memory_bytes, .. }) => {
                if let Some(charge) = self.charges.get_mut(&worker).filter(|charge| charge.worker.epoch == epoch) {
                    charge.touched = memory_bytes;
                }
                self.step(&worker, Event::Beat { epoch, jobs, steps });
            }
            Err(error) => warn!(%worker, %error, "a heartbeat of a worker cannot be read"),
        }
    }

    pub(super) fn hear_lease(&mut self, entry: Entry<PortLease>) {
        let port = |key: &str| key.rsplit_once('.').and_then(|(_, port)| port.parse().ok());
        match entry {
            Entry::Set { key, document: lease, .. } => match port(&key) {
                Some(port) if lease.hive != self.config.name => self.ports.leased_by(port, lease.hive),
                Some(port) if !self.ports.is_of(port, &lease.worker) => self.look_at_lease(key, port, lease),
                Some(_) | None => {}
            },
            Entry::Removed(key) => {
                if let Some(port) = port(&key) {
                    self.ports.released_by_other(port);
                }
            }
            Entry::Unreadable(..) | Entry::Synced => {}
        }
    }

    /// What has become of our key.
    pub(super) fn hear_own_key(&mut self, entry: Entry<HiveRecord>) {
        match entry {
            Entry::Set { document, .. } => self.hear_namesake(&document),
            Entry::Removed(_) => {
                warn!("the key of this hive was deleted or has lapsed; it is written again");
                self.show_presence();
            }
            Entry::Unreadable(key, error) => warn!(key, error, "what was written over this hive's key cannot be read"),
            Entry::Synced => {}
        }
    }

    /// A hive of our name wrote our key.
    fn hear_namesake(&mut self, record: &HiveRecord) {
        let is_newer = (record.epoch, &record.state_id) > (self.epoch, &self.ledger.id().to_owned());
        if record.state_id == self.ledger.id() || !is_newer {
            return;
        }
        error!(host = %record.host, pid = record.pid, "a newer hive has this name; this one ends");
        self.publish(HiveEvent::Fenced { by: record.host.clone() });
        self.end = Some(End::Fenced(record.host.clone()));
    }

    pub(super) fn report(&mut self, report: Result<Report, JoinError>) {
        let report = match report {
            Ok(report) => report,
            Err(error) => return error!(%error, "a task of the hive panicked"),
        };
        match report {
            Report::Provided { worker, epoch, provided } => self.provided(&worker, epoch, provided),
            Report::Fetched { reference, outcome } => self.fetched(reference, outcome),
            Report::FileRemoved { reference, outcome } => self.file_removed(reference, outcome),
            Report::Launched(worker, launched) => self.launched(&worker, launched),
            Report::Exited(worker, epoch, status) => self.exited(&worker, epoch, status.unwrap_or_default()),
            Report::Released { worker, port, why, revision } => {
                self.ports.give_back(port, revision);
                let in_use = self.ports.in_use();
                self.publish_port(port, PortEvent::Released { worker, in_use, why });
            }
            // What was heard of a lease may have been late; what stands there still, while nobody has the port, has leaked.
            Report::Leased { port, lease } if !self.ports.is_of(port, &lease.worker) => self.reclaim(port, lease),
            Report::Leased { .. } => {}
            Report::Renewed(lease, claim) => self.renewed(lease, claim),
            Report::NotEnclosed { worker, pid, error } => self.not_enclosed(&worker, pid, &error),
            Report::Health { worker, epoch, well } => {
                if !well {
                    metrics::health_check_failed();
                }
                self.step(&worker, Event::Health { epoch, well });
            }
            Report::Done => {}
        }
    }

    fn renewed(&mut self, lease: PortLease, claim: PortClaim) {
        let held = self.charges.get_mut(&lease.worker).and_then(|charge| charge.claim.as_mut());
        match held.filter(|held| held.port == claim.port) {
            Some(held) if held.revision < claim.revision => *held = claim,
            Some(_) => {}
            // It was given back meanwhile, and the renewal has claimed it anew.
            None => self.reclaim(claim.port, lease),
        }
    }

    fn exited(&mut self, worker: &WorkerName, epoch: u64, status: ExitStatus) {
        let ExitStatus { code, signal } = status;
        if self.charges.get(worker).is_none_or(|charge| charge.worker.epoch != epoch) {
            return; // A run that is over already.
        }
        let log = output::log_file(&self.config.data, worker);
        let tail = output::tail(&log, epoch, &self.config.rules.bounds);
        info!(%worker, code, signal, "a worker process ended");
        let cage = self.charges.get(worker).and_then(|charge| charge.cage.as_ref());
        let counted = cage.and_then(Cage::oom_kills);
        let out_of_memory = counted.map_or_else(|| limits::looks_like_oom(&tail), |kills| kills > 0);
        self.step(worker, Event::Exited(Ended { code, signal, out_of_memory, tail, draw: draw() }));
        self.look_at_strain();
    }

    fn launched(&mut self, name: &WorkerName, launched: Launched) {
        let skip = |port: u16, why: String| (port, PortEvent::Skipped { worker: name.clone(), why });
        match launched {
            Launched::Running { process, cage, claim } => {
                let (pid, port) = (process.pid(), claim.port);
                let in_use = self.ports.in_use();
                let why = "the lowest free port".to_owned();
                self.publish_port(port, PortEvent::Leased { worker: name.clone(), in_use, why });
                if let Some(charge) = self.charges.get_mut(name) {
                    if let Some(spawning) = &charge.spawning {
                        spawning.runs(port, pid);
                    }
                    charge.process = Some(process.clone());
                    charge.cage = Some(cage.clone());
                    charge.claim = Some(claim);
                }
                self.watch(name, process);
                self.step(name, Event::Started { pid, port });
                self.enclose(name, pid, cage);
            }
            Launched::Held { port, by, reference } => {
                let (port, event) = skip(port, format!("hive {by} has leased it"));
                self.ports.lost_to(port, by);
                self.publish_port(port, event);
                self.launch(name, *reference);
            }
            Launched::Foreign { port, cause, reference } => {
                let (port, event) = skip(port, format!("a program that is none of ours has it: {cause}"));
                self.ports.is_foreign(port, Instant::now());
                self.publish_port(port, event);
                self.launch(name, *reference);
            }
            Launched::Failed { port, revision, doing, cause } => {
                self.ports.give_back(port, revision);
                self.step(name, Event::not_started(doing, cause));
            }
        }
    }
}

/// A random number between 0 and 1.
pub(super) fn draw() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u64_pair().1 as u32;
    f64::from(bits) / f64::from(u32::MAX)
}
