//! Queens and hives as processes: started, signalled, killed, and waited for.

use std::{
    fs::File,
    process::{Command, ExitStatus},
};

use rbee_schema::api::Hives;

use super::{
    instance::{Fleet, Role},
    processes::{RunningProcess, marked, signal},
};
use crate::wait::{PATIENCE, eventually};

impl Fleet {
    /// Starts a queen, and waits until a leading queen answers.
    ///
    /// # Panics
    /// When none does in time.
    pub async fn queen(&mut self) {
        self.queen_named("queen", "").await;
        eventually("a queen leads", PATIENCE, async || self.status().await.is_some_and(|status| status.leads)).await;
    }

    /// Starts a queen with this name and these timers, and waits until it listens.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn queen_named(&mut self, name: &str, timers: &str) {
        self.role(name, &["queen", "--http", "127.0.0.1:0", "--queen-name", name, "--queen-timers", timers]);
        let log = self.log(name);
        let listens = || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("the queen listens"));
        eventually(&format!("queen {name} listens"), PATIENCE, async || listens()).await;
    }

    /// Starts a hive, and waits until the queen knows it.
    ///
    /// # Panics
    /// When the queen does not list it in time.
    pub async fn hive(&mut self, name: &str, ports: &str) {
        let data = self.folder().join(name).display().to_string();
        self.role(name, &["hive", "--name", name, "--ports", ports, "--data", &data]);
        eventually(&format!("the queen knows hive {name}"), PATIENCE, async || {
            let hives: Result<Hives, _> = self.bus.request("hives", &()).await;
            hives.is_ok_and(|reply| reply.hives.iter().any(|hive| hive.name.as_str() == name))
        })
        .await;
    }

    fn role(&mut self, name: &str, arguments: &[&str]) {
        let mut command = self.command();
        command.args(arguments);
        self.launch(name, command);
    }

    /// Starts a command as the role `name`; returns its process number. The log of an earlier role of this name is kept.
    ///
    /// # Panics
    /// When the command cannot be started.
    pub fn launch(&mut self, name: &str, mut command: Command) -> u32 {
        let log = File::options().create(true).append(true).open(self.log(name)).expect("a log can be made");
        let shared = log.try_clone().expect("a file can be shared");
        let process = command.stdout(shared).stderr(log).spawn().expect("the program starts");
        let number = process.id();
        self.roles.push(Role { name: name.to_owned(), process });
        number
    }

    /// The address of a queen's gateway, such as `http://127.0.0.1:41234`.
    ///
    /// # Panics
    /// When the log of the queen does not have it.
    pub async fn http(&self) -> String {
        let log = std::fs::read_to_string(self.log("queen")).expect("the queen writes a log");
        let address = log.rsplit_once(", HTTP ").and_then(|(_, rest)| rest.split_once("/v1"));
        address.expect("the queen logs the address of its gateway").0.to_owned()
    }

    /// The process number of a role.
    ///
    /// # Panics
    /// When no role has this name.
    pub fn role_pid(&self, name: &str) -> u32 {
        self.roles.iter().find(|role| role.name == name).expect("the role runs").process.id()
    }

    /// Sends a signal to a role.
    ///
    /// # Panics
    /// When no role has this name.
    pub fn signal_role(&self, name: &str, signal_name: &str) {
        signal(self.role_pid(name), signal_name);
    }

    /// Kills a role, as a crash would end it.
    ///
    /// # Panics
    /// When no role has this name.
    pub fn kill_role(&mut self, name: &str) {
        let mut role = self.take(name);
        role.process.kill().expect("the process is ours");
        role.process.wait().expect("the process is ours");
    }

    /// Terminates a role with SIGTERM and waits until it has exited. Returns true when its exit code is 0.
    ///
    /// # Panics
    /// When it does not exit in time.
    pub async fn stop_role(&mut self, name: &str) -> bool {
        self.signal_role(name, "TERM");
        self.exit_status(name).await.success()
    }

    /// Waits until a role has exited that was asked to stop in another way. Returns its exit code, `None` where a signal
    /// ended it.
    ///
    /// # Panics
    /// When it does not exit in time.
    pub async fn exit_code(&mut self, name: &str) -> Option<i32> {
        self.exit_status(name).await.code()
    }

    async fn exit_status(&mut self, name: &str) -> ExitStatus {
        let mut role = self.take(name);
        let mut status = None;
        eventually(&format!("{name} has exited"), PATIENCE, async || {
            status = role.process.try_wait().expect("the process is ours");
            status.is_some()
        })
        .await;
        status.expect("it has exited")
    }

    fn take(&mut self, name: &str) -> Role {
        let at = self.roles.iter().position(|role| role.name == name).expect("the role runs");
        self.roles.remove(at)
    }

    /// The live processes of this fleet, workers included, but not its server.
    pub fn running(&self) -> Vec<RunningProcess> {
        RunningProcess::marked(&self.mark)
    }

    /// The numbers of the processes of this fleet, workers included, but not its server.
    pub fn processes(&self) -> Vec<u32> {
        marked(&self.mark)
    }
}
