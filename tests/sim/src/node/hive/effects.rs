//! Carrying out what the state machine of a worker asks for, as `hive/src/supervisor/effects.rs` does.

use rbee_hive::decide::worker::{Effect, Event as Happened};
use rbee_schema::WorkerName;

use super::{returning::Returning, state::Supervisor};
use crate::words::Body;

impl Supervisor {
    /// Lets the state machine of a worker handle an event, and carries out what it asks for.
    pub(super) fn step(&mut self, name: &WorkerName, event: Happened) {
        let now = self.process.now();
        let Some(managed) = self.workers.get_mut(name) else { return };
        if matches!(event, Happened::NotStarted(_)) {
            managed.is_admitted = false;
        }
        let (worker, effects) = managed.worker.clone().step(event, now, &self.rules);
        managed.worker = worker;
        self.carry_out(name, effects);
    }

    pub(super) fn carry_out(&mut self, name: &WorkerName, effects: Vec<Effect>) {
        if !self.workers.contains_key(name) {
            return;
        }
        self.record(name);
        for effect in effects {
            self.effect(name, effect);
        }
        if let Some(managed) = self.workers.get_mut(name)
            && managed.worker.pid().is_none()
            && managed.run.take().is_some()
        {
            managed.is_admitted = false;
        }
        self.record(name);
        self.publish_record(name);
    }

    fn effect(&mut self, name: &WorkerName, effect: Effect) {
        let run = self.workers.get(name).and_then(|managed| managed.run.clone());
        match effect {
            Effect::Start => self.start(name),
            Effect::Drain => self.connection.publish(format!("control.{}.{name}", self.machine.hive), Body::Drain),
            Effect::Terminate => {
                if let Some(run) = run {
                    run.child.terminate();
                    if self.site.settings.flaws.releases_early {
                        self.release_port(name, run.port);
                    }
                }
            }
            Effect::Kill => {
                if let Some(run) = run {
                    self.site.kill_child(&run.child);
                }
            }
            Effect::ReturnJobs(returns) => {
                let returning =
                    Returning { site: self.site.clone(), connection: self.connection.clone(), worker: name.clone() };
                let hive = self.machine.hive.clone();
                self.process.spawn(async move { returning.carry_out(&hive, returns).await });
            }
            Effect::ReleasePort { port, .. } => self.release_port(name, port),
            Effect::Publish(event) => self.process.log(|| format!("{name}: {} {event:?}", event.name())),
            Effect::Forget => {
                self.workers.remove(name);
                self.machine.ledger.borrow_mut().entries.remove(name);
                self.outbox.remove(self.record_key(name));
            }
        }
    }

    /// Writes the record of a worker to the registry where it has changed.
    pub(super) fn publish_record(&mut self, name: &WorkerName) {
        let key = self.record_key(name);
        let Some(managed) = self.workers.get_mut(name) else { return };
        let record = managed.worker.record();
        if managed.published.as_ref() != Some(&record) {
            self.outbox.put(key, Body::Worker(record.clone().into()), None);
            managed.published = Some(record);
        }
    }
}
