//! Commands to this hive, from the leading queen or from a person.

use std::time::Instant;

use rbee_nats::{CommandIssuer, IssuedCommand, trace::TraceContext};
use rbee_schema::{
    Failure, FailureCode, HiveCommand, HiveEvent, ModelName, ModelSpec, StopMode, WorkerName, WorkerPhase,
};
use tracing::{debug, info};

use super::{
    availability::{End, Evacuation},
    managed::ManagedWorker,
    state::Supervisor,
    trace::SpawnSpan,
};
use crate::{
    decide::worker::{Event, Worker},
    metrics,
};

impl Supervisor {
    /// Carries out a command, unless the term of its queen is over.
    pub(super) fn handle_command(&mut self, command: IssuedCommand) {
        if let CommandIssuer::Leader(term) = command.issuer {
            if term < self.ledger.term() {
                return self.refuse_stale(format!(
                    "the command is of term {term} and a queen leads in term {}: the leading queen sends it again where it \
                     is still needed",
                    self.ledger.term()
                ));
            }
            self.ledger.advance_term(term);
        }
        self.execute(command.command, command.trace);
    }

    fn execute(&mut self, command: HiveCommand, trace: Option<TraceContext>) {
        match command {
            HiveCommand::Spawn { worker, model, spec } => self.spawn(worker, model, spec, trace),
            HiveCommand::Stop { worker, why, mode } if self.workers.contains_key(&worker) => {
                self.step(&worker, Event::Stop { why, mode: mode.max(self.availability.drain_mode()) });
            }
            HiveCommand::Stop { worker, .. } => {
                // The worker is gone already, or its record is a leftover.
                self.hive.remove_worker_record(&worker);
                self.refuse_unknown(&worker);
            }
            HiveCommand::Reset { worker } if self.workers.contains_key(&worker) => self.step(&worker, Event::Reset),
            HiveCommand::Reset { worker } => self.refuse_unknown(&worker),
            HiveCommand::Drain { why, mode } => self.drain(why, mode),
            HiveCommand::Resume => self.resume(),
            HiveCommand::Shutdown { why, epoch } => match epoch.filter(|epoch| *epoch != self.hive.epoch) {
                None => self.availability.request_end(End::Commanded(why)),
                Some(meant) => {
                    let run = self.hive.epoch;
                    self.refuse_stale(format!(
                        "the command is to shut down run {meant} of the hive, and this is run {run}"
                    ));
                }
            },
            HiveCommand::Fetch { reference } => self.fetch(reference),
            HiveCommand::RemoveFile { reference } => self.remove_file(reference),
        }
    }

    fn refuse_stale(&self, message: String) {
        metrics::stale_command();
        self.refuse(FailureCode::StaleCommand, message);
    }

    fn refuse_unknown(&self, worker: &WorkerName) {
        let message = format!("there is no worker {worker} on this hive; `rbee ps` lists those that are there");
        self.refuse(FailureCode::UnknownWorker, message);
    }

    pub(super) fn refuse(&self, code: FailureCode, message: String) {
        self.hive.publish(HiveEvent::Refused { failure: Failure::new(code, message) });
    }

    fn spawn(&mut self, name: WorkerName, model: ModelName, spec: ModelSpec, trace: Option<TraceContext>) {
        if let Some(managed) = self.workers.get(&name) {
            if managed.worker.phase() != WorkerPhase::Failed {
                return debug!(worker = %name, "ignored a duplicate spawn command");
            }
            return self.step(&name, Event::Reset);
        }
        if let Err(failure) = spec.check() {
            return self.hive.publish(HiveEvent::Refused { failure });
        }
        let span = SpawnSpan::begin(&self.hive.config.name, &name, &model, trace);
        let lease = self.hive.lease_for(&name);
        let (worker, effects) = Worker::new(name.clone(), model, spec);
        let managed = ManagedWorker { spawn_span: Some(span), ..ManagedWorker::new(worker, lease) };
        self.workers.insert(name.clone(), managed);
        self.carry_out(&name, effects);
    }

    fn drain(&mut self, why: String, mode: StopMode) {
        let workers = self.workers.count();
        info!(why, workers, ?mode, "draining: the hive takes no further workers");
        self.availability.drain(mode);
        self.hive.publish(HiveEvent::Draining { why: why.clone(), workers });
        self.publish_presence();
        if self.availability.has_leader {
            // The queen starts replacements first, and stops each worker once it is replaced.
            let deadline = Instant::now() + self.hive.config.rules.timers.evacuate;
            self.availability.evacuate(Evacuation { deadline, why });
        } else {
            self.stop_all(&why, mode);
        }
    }

    fn resume(&mut self) {
        info!("the hive takes workers again");
        self.availability.resume();
        self.hive.publish(HiveEvent::Resumed {});
        self.publish_presence();
    }

    pub(super) fn stop_all(&mut self, why: &str, mode: StopMode) {
        for worker in self.workers.names() {
            self.step(&worker, Event::Stop { why: why.to_owned(), mode });
        }
    }
}
