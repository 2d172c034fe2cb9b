//! Launching a worker: its port, its command line and its environment.

use std::{ffi::OsString, time::Instant};

use rbee_nats::PortClaim;
use rbee_schema::{Limits, ModelReference, PortEvent, WorkerName};

use super::{
    managed::{ManagedWorker, RunningProcess},
    report::{PortUse, Report},
    state::Supervisor,
    trace,
};
use crate::{
    decide::worker::Event,
    launch::{Launch, Launched, Sandbox},
    limits::WorkerCgroup,
    output,
    process::{Process, RunMark, WorkerCommand},
};

impl Supervisor {
    /// Takes the lowest free port and starts the process in a task of its own; `reference` is the model on this machine.
    pub(super) fn launch(&mut self, name: &WorkerName, reference: ModelReference) {
        let Some(managed) = self.workers.get(name) else { return };
        let (port, revision) = match self.ports.book.take(name, Instant::now()) {
            Ok(taken) => taken,
            Err(failure) => return self.step(name, Event::NotStarted(failure)),
        };
        let launch = Launch {
            port,
            revision,
            lease: managed.lease.clone(),
            sandbox: Sandbox {
                enforcer: self.enforcer.clone(),
                epoch: managed.worker.epoch,
                limits: self.limits_of(managed),
            },
            command: WorkerCommand {
                program: self.hive.config.worker_program.clone(),
                arguments: self.arguments(managed, &reference),
                environment: self.environment(managed),
                epoch: managed.worker.epoch,
                log: output::log_file(&self.hive.config.data, name),
                log_size: self.hive.config.rules.bounds.log_size,
            },
            reference,
        };
        let (leases, name) = (self.ports.leases.clone(), name.clone());
        self.tasks.spawn(async move { Report::Launched(name, launch.run(leases).await) });
    }

    pub(super) fn launched(&mut self, name: &WorkerName, launched: Launched) {
        match launched {
            Launched::Running { process, cgroup, claim } => self.started(name, process, cgroup, claim),
            Launched::Held { port, by, reference } => {
                let why = format!("hive {by} has leased it");
                self.ports.book.lost_to(port, by);
                self.skip(name, port, why, *reference);
            }
            Launched::Foreign { claim, lease, cause, reference } => {
                self.ports.book.is_foreign(claim.port, Instant::now());
                self.release_lease(claim, lease, PortUse::Unchanged);
                self.skip(name, claim.port, format!("another program holds it: {cause}"), *reference);
            }
            Launched::NotLeased { port, cause } => {
                self.ports.book.give_back(port, name);
                self.step(name, Event::not_started("lease a port", cause));
            }
            Launched::NotStarted { claim, lease, cause } => {
                self.release_lease(claim, lease, PortUse::Freed(None));
                self.step(name, Event::not_started("start the worker process", cause));
            }
        }
    }

    fn started(&mut self, name: &WorkerName, process: Process, cgroup: WorkerCgroup, claim: PortClaim) {
        let (pid, port) = (process.pid(), claim.port);
        let (in_use, why) = (self.ports.book.in_use(), "the lowest free port".to_owned());
        self.hive.publish_port(port, PortEvent::Leased { worker: name.clone(), in_use, why });
        if let Some(managed) = self.workers.get_mut(name) {
            if let Some(span) = &managed.spawn_span {
                span.started(port, pid);
            }
            managed.run = Some(RunningProcess::new(process.clone(), cgroup.clone(), Some(claim)));
        }
        self.watch(name, process, cgroup.clone());
        self.step(name, Event::Started { pid, port });
        self.limit(name, pid, cgroup);
    }

    /// Tries the next port.
    fn skip(&mut self, name: &WorkerName, port: u16, why: String, reference: ModelReference) {
        self.hive.publish_port(port, PortEvent::Skipped { worker: name.clone(), why });
        self.launch(name, reference);
    }

    fn arguments(&self, managed: &ManagedWorker, reference: &ModelReference) -> Vec<OsString> {
        let (worker, config) = (&managed.worker, &self.hive.config);
        let mut arguments = vec![
            "--hive".to_owned(),
            config.name.to_string(),
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
        if let Some(device) = worker.spec.device.or(config.devices.first().copied()) {
            arguments.extend(["--device".to_owned(), device.as_str().to_owned()]);
        }
        if let Some(memory) = self.limits_of(managed).memory {
            arguments.extend(["--memory".to_owned(), memory.to_string()]);
        }
        arguments.push(reference.to_string());
        arguments.into_iter().map(OsString::from).collect()
    }

    fn environment(&self, managed: &ManagedWorker) -> Vec<(&'static str, String)> {
        let (hive, config) = (&self.hive, &self.hive.config);
        vec![
            ("RBEE_NATS", config.nats_url.clone()),
            ("RBEE_NAMESPACE", hive.bus.namespace().to_string()),
            // Set even where they are empty: the hive's own environment is not meant for its workers.
            ("RBEE_CONNECTION", hive.bus.settings().to_string()),
            ("RBEE_WORKER_SETTINGS", config.worker.to_string()),
            self.run_mark(managed).variable(),
        ]
        .into_iter()
        .chain(trace::variables(managed.spawn_span.as_ref()))
        .chain(config.otlp.clone().map(|url| ("RBEE_OTLP", url)))
        .chain(threads(self.limits_of(managed)))
        .collect()
    }

    /// Limits of a worker: those of its model, else those of this hive.
    pub(super) fn limits_of(&self, managed: &ManagedWorker) -> Limits {
        managed.worker.spec.limits.or(self.hive.config.limits)
    }

    /// The mark in the environment of every process of the worker's current run.
    pub(super) fn run_mark(&self, managed: &ManagedWorker) -> RunMark {
        let worker = &managed.worker;
        RunMark { state_id: self.ledger.id().to_owned(), worker: worker.name.clone(), epoch: worker.epoch }
    }
}

/// A worker limited to two cores computes with two threads: more would only wait for each other.
fn threads(limits: Limits) -> Option<(&'static str, String)> {
    limits.cpu_millis.map(|millis| ("RBEE_THREADS", millis.div_ceil(1000).to_string()))
}
