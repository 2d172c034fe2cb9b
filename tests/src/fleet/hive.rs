//! Hives that are started with settings of their own, frozen, killed, and started again where they left off.

use std::{path::PathBuf, process::Command};

use rbee_nats::Registry;
use rbee_schema::{
    HiveCommand, HiveName, HiveRecord, ModelReference, ModelSpec, WorkerName, WorkerPhase, WorkerRecord,
};

use super::{Fleet, program, signal};
use crate::wait::{PATIENCE, eventually};

/// How a hive is started.
#[derive(Debug, Clone)]
pub struct HiveSetup {
    /// The name of its process here, and of its log.
    pub role: String,
    /// Its name on the bus.
    pub name: String,
    /// The ports that it may lease, as FIRST-LAST.
    pub ports: String,
    /// What it waits for how long, as `rbee hive --timers` takes it.
    pub timers: String,
    /// Its data folder.
    pub data: PathBuf,
    /// The worker program; `None` for the one of this repository.
    pub worker_program: Option<PathBuf>,
    /// Further arguments.
    pub arguments: Vec<String>,
}

impl HiveSetup {
    /// The command that starts it.
    pub fn command(&self, fleet: &Fleet) -> Command {
        let mut command = fleet.command();
        self.describe(&mut command);
        command
    }

    /// The same, in a shell that does something first and then becomes the hive.
    pub fn command_after(&self, fleet: &Fleet, wrapper: &[&str], script: &str) -> Command {
        let mut command = Command::new(wrapper[0]);
        fleet.mark(&mut command).args(&wrapper[1..]).args(["sh", "-c", &format!("{script}\nexec \"$@\""), "sh"]);
        command.arg(program("rbee"));
        self.describe(&mut command);
        command
    }

    fn describe(&self, command: &mut Command) {
        command.args(["hive", "--name", &self.name, "--ports", &self.ports, "--timers", &self.timers]);
        command.arg("--data").arg(&self.data).args(&self.arguments);
        if let Some(program) = &self.worker_program {
            command.arg("--worker-program").arg(program);
        }
    }
}

impl Fleet {
    /// A hive named `one` with every port of this fleet, a data folder of its own, and these timers.
    pub fn one(&self, timers: &str) -> HiveSetup {
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
    /// When it does not come.
    pub async fn start_hive(&mut self, setup: &HiveSetup) -> HiveRecord {
        let pid = self.launch_hive(setup);
        self.joined(&setup.name, pid).await
    }

    /// Starts a hive on a machine of its own and waits until it takes commands.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn start_hive_on(&mut self, machine: usize, setup: &HiveSetup) -> HiveRecord {
        let enter = self.network().enter(machine);
        let enter: Vec<&str> = enter.iter().map(String::as_str).collect();
        let command = setup.command_after(self, &enter, &format!("hostname {}-machine", setup.name));
        let pid = self.launch(&setup.role, command);
        self.joined(&setup.name, pid).await
    }

    /// Starts a hive and waits for nothing; returns its process.
    pub fn launch_hive(&mut self, setup: &HiveSetup) -> u32 {
        let command = setup.command(self);
        self.launch(&setup.role, command)
    }

    /// Starts a command as a role; returns its process.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn launch(&mut self, role: &str, command: Command) -> u32 {
        self.start_role(role, command)
    }

    /// Waits until the hive of this process takes commands.
    ///
    /// # Panics
    /// When it does not.
    pub async fn joined(&self, name: &str, pid: u32) -> HiveRecord {
        let mut found = None;
        eventually(&format!("hive {name} (process {pid}) takes commands"), PATIENCE, async || {
            found = Registry::hives(&self.bus).get(name).await.ok().flatten();
            found.as_ref().is_some_and(|record| record.pid == pid)
        })
        .await;
        found.expect("it was found")
    }

    /// The process of a role.
    ///
    /// # Panics
    /// When there is no such role.
    pub fn role_pid(&self, name: &str) -> u32 {
        self.roles.iter().find(|role| role.name == name).expect("the role runs").process.id()
    }

    /// Sends a signal to a role.
    ///
    /// # Panics
    /// When there is no such role.
    pub fn signal_role(&self, name: &str, signal_name: &str) {
        signal(self.role_pid(name), signal_name);
    }

    /// Waits until a role has ended; returns its exit code, `None` where a signal ended it.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn ended(&mut self, name: &str) -> Option<i32> {
        let mut role = self.take(name);
        let mut status = None;
        eventually(&format!("{name} has ended"), PATIENCE, async || {
            status = role.process.try_wait().expect("the process is ours");
            status.is_some()
        })
        .await;
        status.and_then(|status| status.code())
    }

    /// Commands hive `one`.
    ///
    /// # Panics
    /// When the server does not store it.
    pub async fn tell_one(&self, command: &HiveCommand) {
        let hive: HiveName = "one".parse().expect("a name of a test is valid");
        self.bus.command(&hive, command).await.expect("the server answers");
    }

    /// Commands hive `one` to start a worker of the test engine.
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
        self.tell_one(&HiveCommand::Spawn { worker, model, spec }).await;
    }

    /// What the registry says of a worker of hive `one`.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn record(&self, worker: &str) -> Option<WorkerRecord> {
        Registry::workers(&self.bus).get(&format!("one.{worker}")).await.expect("the server answers")
    }

    /// Waits until a worker of hive `one` is ready in this run or a later one.
    ///
    /// # Panics
    /// When it does not become so.
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
    /// When they do not become so.
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
