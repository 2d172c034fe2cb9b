//! Three nats-servers in a cluster, each on a machine of its own, with the shipped configuration for clusters.

use std::{
    fs::File,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{network::Network, tools};

/// Password of user `rbee` on the servers.
const PASSWORD: &str = "a-password";

#[derive(Debug)]
pub(super) struct Cluster {
    nodes: Vec<Child>,
    folder: TempDir,
}

impl Cluster {
    /// Starts one server on each machine. Also returns the addresses of all of them, as `--nats` takes them.
    pub(super) fn start(network: &Network) -> (Self, String) {
        let folder = tempfile::tempdir().expect("a folder for the servers' data");
        let addresses: Vec<String> = network.addresses().collect();
        let routes: Vec<String> = addresses.iter().map(|address| format!("\"nats://{address}:6222\"")).collect();
        let routes = format!("[{}]", routes.join(", "));
        let nodes = (0..addresses.len()).map(|machine| spawn(network, machine, &folder, &routes)).collect();
        let urls: Vec<String> =
            addresses.iter().map(|address| format!("nats://rbee:{PASSWORD}@{address}:4222")).collect();
        (Self { nodes, folder }, urls.join(","))
    }

    /// Panics with the log of a server that has exited.
    pub(super) fn check(&mut self) {
        for (machine, node) in self.nodes.iter_mut().enumerate() {
            if let Ok(Some(status)) = node.try_wait() {
                panic!("nats-server {machine} exited with {status}:\n{}", log_of(&self.folder, machine));
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.kill();
            let _ = node.wait();
        }
        if std::thread::panicking() {
            for machine in 0..self.nodes.len() {
                eprintln!("---- nats-server {machine}\n{}", log_of(&self.folder, machine));
            }
        }
    }
}

fn log_of(folder: &TempDir, machine: usize) -> String {
    std::fs::read_to_string(folder.path().join(format!("{machine}.log"))).unwrap_or_default()
}

fn spawn(network: &Network, machine: usize, folder: &TempDir, routes: &str) -> Child {
    let enter = network.enter(machine);
    let log = File::create(folder.path().join(format!("{machine}.log"))).expect("a log can be written");
    let mut command = Command::new(&enter[0]);
    command.args(&enter[1..]).arg(tools::nats_server());
    command.arg("--config").arg(tools::repository().join("nats/server/cluster.conf"));
    command.env("RBEE_NATS_NAME", format!("n{}", machine + 1)).env("RBEE_NATS_ROUTES", routes);
    command.env("RBEE_NATS_STORE", folder.path().join(machine.to_string())).env("RBEE_NATS_PASSWORD", PASSWORD);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("nats-server starts")
}
