//! The fleet of one test: its server, its folder, its processes and its machines.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use rbee_nats::{Bus, BusLimits, Plan};
use tempfile::TempDir;

use super::{
    processes::{MARK, kill_marked},
    program::{program, without_configuration},
};
use crate::{nats::NatsServer, network::Network, port::PortBlock};

/// A fleet. Every process of it ends when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    /// The server of the fleet.
    pub server: NatsServer,
    /// A connection to the server.
    pub bus: Bus,
    /// The ports that the first hive may lease.
    pub ports: PortBlock,
    pub(super) mark: String,
    pub(super) roles: Vec<Role>,
    folder: TempDir,
    /// Environment variables of every process that is started from now on.
    variables: Vec<(&'static str, String)>,
    /// The machines of the hives, where each hive has its own. Declared last, so that it is dropped last.
    network: Option<Network>,
}

/// One `rbee` process.
#[derive(Debug)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) process: Child,
}

impl Fleet {
    /// A server, a queen and a hive named `one`, all of them ready.
    ///
    /// # Panics
    /// When one of them does not start.
    pub async fn start() -> Self {
        let mut fleet = Self::bare().await;
        fleet.queen().await;
        let ports = fleet.ports.range();
        fleet.hive("one", &ports).await;
        fleet
    }

    /// A server with all streams and buckets, and ten ports for workers.
    ///
    /// # Panics
    /// When the server does not start.
    pub async fn bare() -> Self {
        Self::with_ports(10).await
    }

    /// A server with all streams and buckets, and `count` ports for workers.
    ///
    /// # Panics
    /// When the server does not start, or there are not `count` free ports in a row.
    pub async fn with_ports(count: u16) -> Self {
        Self::around(NatsServer::start().await, None, count).await
    }

    /// A server with all streams and buckets, `machines` machines on a network with it, and `ports` ports for workers.
    ///
    /// # Panics
    /// When the server does not start, or the network cannot be created.
    pub async fn on_machines(machines: usize, ports: u16) -> Self {
        let network = Network::new(machines);
        Self::around(NatsServer::start_at(&network.address()).await, Some(network), ports).await
    }

    /// Three servers in a cluster, each on a machine of its own, every stream with three replicas, and `ports` ports for
    /// workers.
    ///
    /// # Panics
    /// When the servers do not start, or the network cannot be created.
    pub async fn on_cluster(ports: u16) -> Self {
        let network = Network::new(3);
        Self::around(NatsServer::cluster(&network).await, Some(network), ports).await
    }

    async fn around(server: NatsServer, network: Option<Network>, ports: u16) -> Self {
        let bus = server.bus("rbee").await;
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mark = folder.path().display().to_string();
        let (variables, roles) = (Vec::new(), Vec::new());
        Self { server, bus, ports: PortBlock::take_of(ports), mark, roles, folder, variables, network }
    }

    /// An `rbee` command that connects to this fleet.
    pub fn command(&self) -> Command {
        let mut command = Command::new(program("rbee"));
        self.mark(&mut command);
        command
    }

    /// Marks a command as part of this fleet: its processes end with the fleet.
    pub fn mark<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        without_configuration(command);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.env("RBEE_NATS", self.server.url()).env(MARK, &self.mark).stdin(Stdio::null())
    }

    /// Sets an environment variable of every process that is started from now on.
    pub fn set_variable(&mut self, name: &'static str, value: &str) {
        self.variables.push((name, value.to_owned()));
    }

    /// Sets limits of the streams, for the workers that are started from now on.
    ///
    /// # Panics
    /// When the server does not accept them.
    pub async fn limit_bus(&self, limits: &str) {
        let limits: BusLimits = limits.parse().expect("limits of a test are valid");
        let plan = Plan::with_limits(&self.bus, &limits).await.expect("the server answers");
        plan.apply(&self.bus).await.expect("the server accepts the limits");
    }

    /// The log file of a role.
    pub fn log(&self, role: &str) -> PathBuf {
        self.folder().join(format!("{role}.log"))
    }

    /// The folder of this test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs an `rbee` command to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn rbee(&self, arguments: &[&str]) -> Output {
        let mut command = self.command();
        command.args(arguments);
        let run = tokio::task::spawn_blocking(move || command.output());
        run.await.expect("the command does not panic").expect("rbee runs")
    }

    /// The network of the machines.
    ///
    /// # Panics
    /// When the fleet was started without machines.
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("this fleet was started on machines")
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Hives first: they would start their workers again.
        for role in &mut self.roles {
            let _ = role.process.kill();
            let _ = role.process.wait();
        }
        kill_marked(&self.mark);
        if std::thread::panicking() {
            for role in ["queen", "one", "two", "three", "again"] {
                if let Ok(log) = std::fs::read_to_string(self.log(role)) {
                    eprintln!("---- {role}\n{log}");
                }
            }
        }
    }
}
