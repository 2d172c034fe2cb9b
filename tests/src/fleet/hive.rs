//! Hives that a test starts with its own settings, commands to hive `one`, and the records of its workers.

use std::{path::PathBuf, process::Command};

use rbee_nats::Registry;
use rbee_schema::{
    HiveCommand, HiveName, HiveRecord, ModelReference, ModelSpec, WorkerName, WorkerPhase, WorkerRecord,
};

use super::{instance::Fleet, program::program};
use crate::wait::{PATIENCE, eventually};

/// Settings of a hive.
#[derive(Debug, Clone)]
pub struct HiveSetup {
    /// Role of the process in this fleet, which also names its log.
    pub role: String,
    /// Name of the hive on the bus.
    pub name: String,
    /// Ports that the hive may lease, as FIRST-LAST.
    pub ports: String,
    /// Timers of the hive, in the form of `rbee hive --timers`.
    pub timers: String,
    /// Data folder of the hive.
    pub data: PathBuf,
    /// Worker program; `None` for the one of this repository.
    pub worker_program: Option<PathBuf>,
    /// Further arguments of `rbee hive`.
    pub arguments: Vec<String>,
}

impl HiveSetup {
    /// The command that starts the hive.
    pub fn command(&self, fleet: &Fleet) -> Command {
        let mut command = fleet.command();
        self.add_arguments(&mut command);
        command
    }

    /// A shell that runs `script`, inside of `wrapper`, and then becomes the hive.
    pub fn command_after(&self, fleet: &Fleet, wrapper: &[&str], script: &str) -> Command {
        let mut command = Command::new(wrapper[0]);
        fleet.mark(&mut command).args(&wrapper[1..]).args(["sh", "-c", &format!("{script}\nexec \"$@\""), "sh"]);
        command.arg(program("rbee"));
        self.add_arguments(&mut command);
        command
    }

    fn add_arguments(&self, command: &mut Command) {
        command.args(["hive", "--name", &self.name, "--ports", &self.ports, "--timers", &self.timers]);
        command.arg("--data").arg(&self.data).args(&self.arguments);
        if let Some(program) = &self.worker_program {
            command.arg("--worker-program").arg(program);
        }
    }
}

impl Fleet {
    /// Settings of a hive named `one` with every port of this fleet, a data folder of its own, and these timers.
    pub fn hive_one(&self, timers: &str) -> HiveSetup {
        HiveSetup {
            role: "one".to_owned(),
            name: "one".to_owned(),
            ports: self.ports.range(),
            timers: timers.to_owned(),
            data: self.folder().join("one"),
            worker_program: None,
            arguments: Vec::new(),
        }
    }

    /// Starts a hive and waits until it takes commands.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn start_hive(&mut self, setup: &HiveSetup) -> HiveRecord {
        let pid = self.launch_hive(setup);
        self.joined(&setup.name, pid).await
    }

    /// Starts a hive on a machine of its own and waits until it takes commands.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn start_hive_on(&mut self, machine: usize, setup: &HiveSetup) -> HiveRecord {
        let enter = self.network().enter(machine);
        let enter: Vec<&str> = enter.iter().map(String::as_str).collect();
        let command = setup.command_after(self, &enter, &format!("hostname {}-machine", setup.name));
        let pid = self.launch(&setup.role, command);
        self.joined(&setup.name, pid).await
    }

    /// Starts a hive without waiting for it; returns its process number.
    pub fn launch_hive(&mut self, setup: &HiveSetup) -> u32 {
        let command = setup.command(self);
        self.launch(&setup.role, command)
    }

    /// Waits until the hive with this process number takes commands.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn joined(&self, name: &str, pid: u32) -> HiveRecord {
        let mut found = None;
        eventually(&format!("hive {name} (process {pid}) takes commands"), PATIENCE, async || {
            found = Registry::hives(&self.bus).get(name).await.ok().flatten();
            found.as_ref().is_some_and(|record| record.pid == pid)
        })
        .await;
        found.expect("it was found")
    }

    /// Sends a command to hive `one`.
    ///
    /// # Panics
    /// When the server does not store it.
    pub async fn command_hive_one(&self, command: &HiveCommand) {
        let hive: HiveName = "one".parse().expect("a name of a test is valid");
        self.bus.command(&hive, command).await.expect("the server answers");
    }

    /// Commands hive `one` to start a worker of the mock engine.
    ///
    /// # Panics
    /// When the server does not store it.
    pub async fn spawn_mock(&self, worker: &str, model: &str, options: &str) {
        self.spawn(worker, model, ModelSpec::new(ModelReference::Mock(options.to_owned()))).await;
    }

    /// Commands hive `one` to start a worker.
    ///
    /// # Panics
    /// When the server does not store it.
    pub async fn spawn(&self, worker: &str, model: &str, spec: ModelSpec) {
        let worker: WorkerName = worker.parse().expect("a name of a test is valid");
        let model = model.parse().expect("a name of a test is valid");
        self.command_hive_one(&HiveCommand::Spawn { worker, model, spec }).await;
    }

    /// The record of a worker of hive `one` in the registry.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn record(&self, worker: &str) -> Option<WorkerRecord> {
        Registry::workers(&self.bus).get(&format!("one.{worker}")).await.expect("the server answers")
    }

    /// Waits until a worker of hive `one` is ready in this run or a later one.
    ///
    /// # Panics
    /// When it is not ready in time.
    pub async fn ready_in(&self, worker: &str, epoch: u64) -> WorkerRecord {
        let mut found = None;
        eventually(&format!("worker {worker} is ready in run {epoch}"), PATIENCE, async || {
            found = self.record(worker).await;
            found.as_ref().is_some_and(|record| record.phase == WorkerPhase::Ready && record.epoch >= epoch)
        })
        .await;
        found.expect("it was found")
    }

    /// Commands hive `one` to start workers of one model, and waits until they are ready.
    ///
    /// # Panics
    /// When they are not ready in time.
    pub async fn mocks_ready(&self, workers: &[&str], model: &str, options: &str) -> Vec<WorkerRecord> {
        for worker in workers {
            self.spawn_mock(worker, model, options).await;
        }
        let mut records = Vec::new();
        for worker in workers {
            records.push(self.ready_in(worker, 1).await);
        }
        records
    }
}
