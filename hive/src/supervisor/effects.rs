//! Carrying out what was decided.

use std::{
    ffi::OsString,
    time::{Duration, Instant},
};

use rbee_nats::{PortClaim, PortLeases, Registry, Subject};
use rbee_schema::{
    Event as BusEvent, Failure, FailureCode, HiveEvent, JobInFlight, Limits, ModelReference, PortEvent, PortLease,
    WorkerControl, WorkerEvent, WorkerName, WorkerRecord,
};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::{Charge, Report, Supervisor, decided, number, trace};
use crate::{
    decide::worker::{Effect, Event},
    launch::{Caged, Launch},
    ledger::Page,
    limits::Cage,
    metrics, output,
    process::Run,
};

/// For how long the release of a lease is tried; then it lapses by itself. A cluster that has lost a server elects its
/// leaders within 20 s.
const RELEASE: Duration = Duration::from_secs(60);

/// Between two tries.
const RELEASE_PAUSE: Duration = Duration::from_secs(1);

impl Supervisor {
    pub(super) fn step(&mut self, name: &WorkerName, event: Event) {
        let Some(charge) = self.charges.get_mut(name) else { return };
        if matches!(event, Event::NotStarted(_)) {
            // What it was promised is free again.
            charge.need = None;
        }
        if let Some(how) = trace::end(&event)
            && let Some(spawning) = charge.spawning.take()
        {
            spawning.ends(&how);
        }
        let (worker, effects) = charge.worker.clone().step(event, Instant::now(), &self.rules);
        charge.worker = worker;
        self.carry_out(name, effects);
    }

    pub(super) fn carry_out(&mut self, name: &WorkerName, effects: Vec<Effect>) {
        let written = self.write_page(name);
        for effect in effects {
            match (effect, &written) {
                // What the ledger does not know would be nobody's after a crash of ours.
                (Effect::Start, Err(error)) => {
                    let message = format!("failed to write the hive's ledger: {error}; make room, or choose --data");
                    return self.step(name, Event::NotStarted(Failure::new(FailureCode::DiskFull, message)));
                }
                (effect, _) => self.effect(name, effect),
            }
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
            Effect::Kill => self.kill(name),
            Effect::GiveBack(jobs) => self.give_back(name, jobs),
            Effect::ReleasePort { port, why } => self.release_port(name, port, why),
            Effect::Publish(event) => self.tell(name, event),
            Effect::Forget => {
                self.charges.remove(name);
                self.ledger.remove(name);
                self.records.remove_ordered(&self.outbox, &self.key(name));
                info!(worker = %name, "a worker is gone");
                if self.draining {
                    self.publish(HiveEvent::Drained { left: number(self.charges.len()) });
                }
            }
        }
    }

    /// Tells the bus, and people in one line where something was decided.
    fn tell(&mut self, name: &WorkerName, event: WorkerEvent) {
        debug!(worker = %name, event = event.name(), "told");
        metrics::told(&event);
        match &event {
            WorkerEvent::Suspect { why, .. } => decided(name, "a worker is suspect", why),
            WorkerEvent::Draining { why } => decided(name, "a worker drains", why),
            WorkerEvent::Stopping { why } => decided(name, "a worker is told to end", why),
            WorkerEvent::Exited { why, class, .. } => {
                decided(name, &format!("a worker has ended ({class})"), why);
                let is_wanted = self.charges.get(name).is_some_and(|charge| charge.worker.unwanted().is_none());
                if is_wanted {
                    self.strain.exited(Instant::now());
                }
            }
            WorkerEvent::Restarting { why, .. } => decided(name, "a worker is started again", why),
            WorkerEvent::CrashLooped { failure, .. } => decided(name, "a worker is in a crash loop", &failure.message),
            WorkerEvent::Failed { failure, .. } => decided(name, "a worker is given up", &failure.message),
            WorkerEvent::Removed { why, .. } => decided(name, "a worker is not wanted any more", why),
            WorkerEvent::Ignored { received, state } => {
                warn!(worker = %name, received, state, "a message does not fit the state of the worker; it is ignored");
            }
            WorkerEvent::Unkillable { pid, since_ms } => {
                warn!(worker = %name, pid, since_ms, "a process does not end although it was killed");
            }
            WorkerEvent::Spawned { .. }
            | WorkerEvent::Loading { .. }
            | WorkerEvent::Ready { .. }
            | WorkerEvent::Adopted { .. }
            | WorkerEvent::Recovered { .. } => {}
        }
        self.outbox.publish(&BusEvent::Worker(self.config.name.clone(), name.clone(), event));
    }

    /// Takes the next port and starts the process in a task of its own; `reference` is the model on this machine.
    pub(super) fn launch(&mut self, name: &WorkerName, reference: ModelReference) {
        let Some(charge) = self.charges.get(name) else { return };
        let (lease, arguments) = (charge.lease.clone(), self.arguments(charge, &reference));
        let (environment, limits) = (self.environment(charge), self.limits_of(charge));
        let epoch = charge.worker.epoch;
        let (port, revision) = match self.ports.take(name, Instant::now()) {
            Ok(taken) => taken,
            Err(failure) => return self.step(name, Event::NotStarted(failure)),
        };
        let program = self.config.worker_program.clone();
        let log = output::log_file(&self.config.data, name);
        let enforcer = self.enforcer.clone();
        let cage = Caged { enforcer, epoch, limits };
        let log_size = self.config.rules.bounds.log_size;
        let launch = Launch { port, revision, lease, reference, cage, program, arguments, environment, log, log_size };
        let (leases, name) = (self.leases.clone(), name.clone());
        self.tasks.spawn(async move { Report::Launched(name, launch.carry_out(leases).await) });
    }

    fn arguments(&self, charge: &Charge, reference: &ModelReference) -> Vec<OsString> {
        let worker = &charge.worker;
        let mut arguments = vec![
            "--hive".to_owned(),
            self.config.name.to_string(),
            "--worker".to_owned(),
            worker.name.to_string(),
            "--model".to_owned(),
            worker.model.to_string(),
            "--epoch".to_owned(),
            worker.epoch.to_string(),
            "--slots".to_owned(),
            worker.spec.slots.to_string(),
            "--kind".to_owned(),
            worker.spec.kind.to_string(),
        ];
        if let Some(context) = worker.spec.context {
            arguments.extend(["--context".to_owned(), context.to_string()]);
        }
        if let Some(device) = worker.spec.device.or(self.config.devices.first().copied()) {
            arguments.extend(["--device".to_owned(), device.as_str().to_owned()]);
        }
        if let Some(memory) = self.limits_of(charge).memory {
            arguments.extend(["--memory".to_owned(), memory.to_string()]);
        }
        arguments.push(reference.to_string());
        arguments.into_iter().map(OsString::from).collect()
    }

    fn environment(&self, charge: &Charge) -> Vec<(&'static str, String)> {
        vec![
            ("RBEE_NATS", self.config.nats_url.clone()),
            ("RBEE_NAMESPACE", self.bus.namespace().to_string()),
            // Also where they say nothing: what this hive was started in is not for its workers.
            ("RBEE_CONNECTION", self.bus.settings().to_string()),
            ("RBEE_WORKER_SETTINGS", self.config.worker.to_string()),
            self.run_of(charge).mark(),
        ]
        .into_iter()
        .chain(trace::variables(charge.spawning.as_ref()))
        .chain(self.config.otlp.clone().map(|url| ("RBEE_OTLP", url)))
        .chain(threads(self.limits_of(charge)))
        .collect()
    }

    /// What a worker may use: what its declaration says, else what this hive says.
    pub(super) fn limits_of(&self, charge: &Charge) -> Limits {
        charge.worker.spec.limits.or(self.config.limits)
    }

    fn run_of(&self, charge: &Charge) -> Run {
        Run { state_id: self.ledger.id().to_owned(), worker: charge.worker.name.clone(), epoch: charge.worker.epoch }
    }

    fn drain(&mut self, name: &WorkerName) {
        let (bus, subject) = (self.bus.clone(), Subject::WorkerControl(self.config.name.clone(), name.clone()));
        self.tasks.spawn(async move {
            if let Err(error) = bus.publish(&subject, &WorkerControl::Drain).await {
                warn!(%error, "a worker cannot be told to drain; it is terminated later");
            }
            Report::Done
        });
    }

    /// The process and its group at once; what has left the group is found by its mark.
    fn kill(&mut self, name: &WorkerName) {
        let Some(charge) = self.charges.get(name) else { return };
        if let Some(process) = &charge.process {
            process.kill();
            process.reap();
        }
        let (run, cage) = (self.run_of(charge), charge.cage.clone());
        self.tasks.spawn_blocking(move || {
            if let Some(cage) = cage {
                cage.kill_all();
                empty(&cage);
            }
            for pid in run.kill_all() {
                debug!(pid, %run, "a process of a worker's tree was killed");
            }
            Report::Done
        });
    }

    /// The first thing that is done about a dead worker: the jobs are with another one about a millisecond later.
    fn give_back(&mut self, name: &WorkerName, jobs: Vec<JobInFlight>) {
        let (bus, outbox) = (self.bus.clone(), self.outbox.clone());
        let (hive, worker) = (self.config.name.clone(), name.clone());
        self.tasks.spawn(async move {
            bus.return_to_queue(&outbox, &hive, &worker, jobs).await;
            Report::Done
        });
    }

    fn release_port(&mut self, name: &WorkerName, port: u16, why: String) {
        let Some(charge) = self.charges.get_mut(name) else { return };
        charge.process = None;
        charge.cage = None;
        charge.need = None;
        charge.touched = 0;
        let Some(claim) = charge.claim.take() else {
            return self.ports.give_back(port, None);
        };
        let (leases, lease, worker) = (self.leases.clone(), charge.lease.clone(), name.clone());
        self.tasks.spawn(async move {
            let revision = release(&leases, claim, &lease).await;
            Report::Released { worker, port, why, revision }
        });
    }

    /// Whether a lease of ours that no worker has stands there still: it was told, and may have been released since.
    pub(super) fn look_at_lease(&mut self, key: String, port: u16, lease: PortLease) {
        let leases = Registry::ports(&self.bus);
        self.tasks.spawn(async move {
            match leases.get(&key).await {
                Ok(Some(found)) if found == lease => Report::Leased { port, lease },
                Ok(_) => Report::Done,
                Err(error) => {
                    warn!(port, %error, "a lease that may have leaked cannot be read; it is left to lapse");
                    Report::Done
                }
            }
        });
    }

    /// A lease of ours that no worker has: it leaked.
    pub(super) fn reclaim(&mut self, port: u16, lease: PortLease) {
        self.tell_reclaimed(port, &lease.worker);
        let leases = self.leases.clone();
        self.tasks.spawn(async move {
            release(&leases, PortClaim { port, revision: 0 }, &lease).await;
            Report::Done
        });
    }

    pub(super) fn tell_reclaimed(&self, port: u16, worker: &WorkerName) {
        warn!(port, %worker, "a lease of this hive belongs to no worker; it is released");
        let in_use = self.ports.in_use();
        let why = "no worker of that name has it".to_owned();
        metrics::port_reclaimed();
        self.publish_port(port, PortEvent::Reclaimed { worker: worker.clone(), in_use, why });
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
                    Ok(claim) => Report::Renewed(lease, claim),
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

    /// Writes what the ledger says about a worker, where it has changed.
    fn write_page(&mut self, name: &WorkerName) -> std::io::Result<()> {
        let Some(charge) = self.charges.get_mut(name) else { return Ok(()) };
        let worker = &charge.worker;
        let page = Page {
            model: worker.model.clone(),
            spec: worker.spec.clone(),
            record: record_of(charge),
            unwanted: worker.unwanted().map(str::to_owned),
            process: charge.process.as_ref().map(|process| process.identity.clone()),
            lease: charge.lease.clone(),
        };
        if charge.page.as_ref() == Some(&page) {
            return Ok(());
        }
        let written = self.ledger.put(name, &page);
        match &written {
            Ok(()) => charge.page = Some(page),
            Err(error) => warn!(worker = %name, %error, "the ledger cannot be written"),
        }
        written
    }

    /// Writes what the registry says about a worker, where it has changed.
    fn write_record(&mut self, name: &WorkerName) {
        let key = self.key(name);
        let Some(charge) = self.charges.get_mut(name) else { return };
        let record = record_of(charge);
        if charge.written.as_ref() != Some(&record) {
            Registry::workers(&self.bus).put_ordered(&self.outbox, &key, &record, None);
            charge.written = Some(record);
        }
    }
}

/// What the registry and the ledger say about a worker.
fn record_of(charge: &Charge) -> WorkerRecord {
    let limits = charge.cage.as_ref().and_then(Cage::in_force);
    WorkerRecord { limits, ..charge.worker.record() }
}

/// A worker that may use two cores computes with two threads: more would only wait for each other.
fn threads(limits: Limits) -> Vec<(&'static str, String)> {
    let Some(millis) = limits.cpu_millis else { return Vec::new() };
    vec![("RBEE_THREADS", millis.div_ceil(1000).to_string())]
}

/// How long killed processes may take to be gone. The kernel frees their memory first: about 65 ms for each GiB.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);

/// Removes the groups of a run that was killed. What is there still is removed when the hive starts anew.
fn empty(cage: &Cage) {
    if !cage.is_empty_within(EMPTY_WITHIN) {
        return warn!(pids = ?cage.pids(), "processes of a worker are there still although they were killed");
    }
    if let Err(error) = cage.remove() {
        warn!(%error, "the groups of a worker cannot be removed");
    }
}

/// Releases a lease, also where the servers elect a leader first. Returns the revision with which the port can be claimed
/// again at once, if it was released.
async fn release(leases: &PortLeases, claim: PortClaim, lease: &PortLease) -> Option<u64> {
    let port = claim.port;
    let deadline = Instant::now() + RELEASE;
    loop {
        match leases.release(claim, lease).await {
            Ok(revision) => return Some(revision),
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                debug!(port, %error, "a lease is not released yet; trying again");
                sleep(RELEASE_PAUSE).await;
            }
            Err(error) => {
                warn!(port, %error, "a lease is left to lapse");
                return None;
            }
        }
    }
}
