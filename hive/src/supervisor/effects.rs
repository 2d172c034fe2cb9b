//! Carrying out what was decided.

use std::{process::Command, time::Instant};

use rbee_nats::{PortClaim, Registry, Subject};
use rbee_schema::{Event as BusEvent, JobEvent, JobInFlight, ModelReference, WorkerControl, WorkerName};
use tracing::{debug, info, warn};

use super::{Report, Supervisor};
use crate::{
    decide::worker::{Effect, Event},
    launch::Launch,
    output,
};

impl Supervisor {
    pub(super) fn step(&mut self, name: &WorkerName, event: Event) {
        let Some(charge) = self.charges.get_mut(name) else { return };
        let (worker, effects) = charge.worker.clone().step(event, Instant::now());
        charge.worker = worker;
        self.carry_out(name, effects);
    }

    pub(super) fn carry_out(&mut self, name: &WorkerName, effects: Vec<Effect>) {
        for effect in effects {
            self.effect(name, effect);
        }
        self.write_record(name);
    }

    fn effect(&mut self, name: &WorkerName, effect: Effect) {
        match effect {
            Effect::Start => self.start(name),
            Effect::Drain => self.drain(name),
            Effect::Terminate => {
                if let Some(process) = self.charges.get(name).and_then(|charge| charge.process.as_ref()) {
                    process.terminate();
                }
            }
            Effect::Kill => {
                if let Some(process) = self.charges.get(name).and_then(|charge| charge.process.as_ref()) {
                    process.kill_tree();
                }
            }
            Effect::GiveBack(jobs) => self.give_back(name, jobs),
            Effect::ReleasePort { port, why } => self.release_port(name, port, why),
            Effect::Publish(event) => {
                debug!(worker = %name, event = event.name(), "told");
                self.outbox.publish(&BusEvent::Worker(self.config.name.clone(), name.clone(), event));
            }
            Effect::Forget => {
                self.charges.remove(name);
                self.records.remove_by(&self.outbox, &self.key(name));
                info!(worker = %name, "a worker is gone");
            }
        }
    }

    /// Takes the next port and starts the process in a task of its own.
    pub(super) fn start(&mut self, name: &WorkerName) {
        let Some(charge) = self.charges.get(name) else { return };
        let (port, revision) = match self.ports.take(name, Instant::now()) {
            Ok(taken) => taken,
            Err(failure) => return self.step(name, Event::NotStarted(failure)),
        };
        let launch = Launch {
            port,
            revision,
            lease: charge.lease.clone(),
            command: self.command(name),
            log: output::log_file(&self.config.data, name),
        };
        let (leases, name) = (self.leases.clone(), name.clone());
        self.tasks.spawn(async move { Report::Launched(name, launch.carry_out(leases).await) });
    }

    fn command(&self, name: &WorkerName) -> Command {
        let mut command = Command::new(&self.config.worker_program);
        let Some(charge) = self.charges.get(name) else { return command };
        let worker = &charge.worker;
        command
            .args(["--hive", self.config.name.as_str(), "--worker", name.as_str(), "--model", worker.model.as_str()])
            .args(["--epoch", &worker.epoch.to_string(), "--slots", &worker.spec.slots.to_string()])
            .env("RBEE_NATS", &self.config.nats_url)
            .env("RBEE_NAMESPACE", self.bus.namespace().to_string());
        if let Some(context) = worker.spec.context {
            command.args(["--context", &context.to_string()]);
        }
        let reference: &ModelReference = &worker.spec.reference;
        command.arg(reference.to_string());
        command
    }

    fn drain(&mut self, name: &WorkerName) {
        let (bus, subject) = (self.bus.clone(), Subject::WorkerControl(self.config.name.clone(), name.clone()));
        self.tasks.spawn(async move {
            if let Err(error) = bus.tell(&subject, &WorkerControl::Drain).await {
                warn!(%error, "a worker cannot be told to drain; it is terminated later");
            }
            Report::Done
        });
    }

    /// The first thing that is done about a dead worker: the jobs are with another one about a millisecond later.
    fn give_back(&mut self, name: &WorkerName, jobs: Vec<JobInFlight>) {
        let (bus, outbox) = (self.bus.clone(), self.outbox.clone());
        let (hive, worker) = (self.config.name.clone(), name.clone());
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

    fn release_port(&mut self, name: &WorkerName, port: u16, why: String) {
        let Some(charge) = self.charges.get_mut(name) else { return };
        charge.process = None;
        let Some(claim) = charge.claim.take() else { return };
        let (leases, lease, worker) = (self.leases.clone(), charge.lease.clone(), name.clone());
        self.tasks.spawn(async move {
            let revision = match leases.release(claim, &lease).await {
                Ok(revision) => Some(revision),
                Err(error) => {
                    warn!(port, %error, "a lease is left to lapse");
                    None
                }
            };
            Report::Released { worker, port, why, revision }
        });
    }

    pub(super) fn renew_leases(&mut self) {
        let held: Vec<_> = self
            .charges
            .iter()
            .filter_map(|(name, charge)| Some((name.clone(), charge.claim?, charge.lease.clone())))
            .collect();
        for (worker, claim, lease) in held {
            let leases = self.leases.clone();
            self.tasks.spawn(async move {
                match leases.renew(claim, &lease).await {
                    Ok(claim) => Report::Renewed(worker, claim),
                    Err(error) => {
                        let PortClaim { port, .. } = claim;
                        warn!(port, %worker, %error, "a lease was not renewed");
                        Report::Done
                    }
                }
            });
        }
    }

    pub(super) fn key(&self, name: &WorkerName) -> String {
        format!("{}.{name}", self.config.name)
    }

    /// Writes what the registry says about a worker, where it has changed.
    fn write_record(&mut self, name: &WorkerName) {
        let key = self.key(name);
        let Some(charge) = self.charges.get_mut(name) else { return };
        let record = charge.worker.record();
        if charge.written.as_ref() != Some(&record) {
            Registry::workers(&self.bus).put_by(&self.outbox, &key, &record, None);
            charge.written = Some(record);
        }
    }
}
