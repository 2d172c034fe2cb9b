//! Machines of a test: network namespaces, each with an address and a host name of its own, on one bridge.
//!
//! The bridge is in a namespace of its own, and this machine, where queen and server run, has a link to it. A machine is
//! disconnected by taking its link down. This needs the right to create namespaces and links: see `Needs::Network`.

use std::process::{Command, Output};

use crate::port::Port;

const BRIDGE: &str = "bridge";

/// One bridge and the machines on it. They are removed when it is dropped.
#[derive(Debug)]
pub struct Network {
    /// Reserves the number from which names and addresses are made, so that no other test uses them.
    number: Port,
    machines: usize,
}

impl Network {
    /// Creates a bridge with this number of machines.
    ///
    /// # Panics
    /// When this process may not create network namespaces.
    pub fn new(machines: usize) -> Self {
        let network = Self { number: Port::take(), machines };
        let (switch, uplink) = (network.switch(), network.uplink());
        ip(&["netns", "add", &switch]);
        ip(&["-n", &switch, "link", "add", BRIDGE, "type", "bridge"]);
        ip(&["-n", &switch, "link", "set", BRIDGE, "up"]);
        ip(&["link", "add", &uplink, "type", "veth", "peer", "name", "up", "netns", &switch]);
        ip(&["addr", "add", &format!("{}/24", network.address()), "dev", &uplink]);
        ip(&["link", "set", &uplink, "up"]);
        ip(&["-n", &switch, "link", "set", "dev", "up", "master", BRIDGE, "up"]);
        for machine in 0..machines {
            network.add_machine(machine);
        }
        network
    }

    fn add_machine(&self, machine: usize) {
        let (switch, namespace, link) = (self.switch(), self.namespace(machine), link(machine));
        let address = format!("{}/24", self.address_of(machine));
        ip(&["netns", "add", &namespace]);
        ip(&["-n", &switch, "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &namespace]);
        ip(&["-n", &switch, "link", "set", &link, "master", BRIDGE, "up"]);
        ip(&["-n", &namespace, "addr", "add", &address, "dev", "eth0"]);
        ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
    }

    /// The address of this machine on the bridge.
    pub fn address(&self) -> String {
        format!("{}.1", self.prefix())
    }

    /// The addresses of the machines.
    pub fn addresses(&self) -> impl Iterator<Item = String> {
        (0..self.machines).map(|machine| self.address_of(machine))
    }

    fn address_of(&self, machine: usize) -> String {
        format!("{}.{}", self.prefix(), machine + 2)
    }

    /// The prefix of a command that runs on a machine. It executes the command in its own process.
    pub fn enter(&self, machine: usize) -> Vec<String> {
        let namespace = format!("--net=/run/netns/{}", self.namespace(machine));
        ["nsenter", &namespace, "unshare", "--uts"].map(str::to_owned).to_vec()
    }

    /// Takes the link of a machine down.
    ///
    /// # Panics
    /// When `ip` fails.
    pub fn disconnect(&self, machine: usize) {
        ip(&["-n", &self.switch(), "link", "set", &link(machine), "down"]);
    }

    /// Brings the link of a machine up again.
    ///
    /// # Panics
    /// When `ip` fails.
    pub fn reconnect(&self, machine: usize) {
        ip(&["-n", &self.switch(), "link", "set", &link(machine), "up"]);
    }

    /// The namespace of the bridge. On the machine itself a container engine may filter the packets of a bridge.
    fn switch(&self) -> String {
        format!("rbee{}", self.number.number())
    }

    /// This machine's link to the bridge. The kernel allows 15 characters.
    fn uplink(&self) -> String {
        format!("rbee{}up", self.number.number())
    }

    fn namespace(&self, machine: usize) -> String {
        format!("rbee{}-{machine}", self.number.number())
    }

    /// The first three bytes of a network in 10.128.0.0/9, chosen by the reserved number.
    fn prefix(&self) -> String {
        let [high, low] = self.number.number().to_be_bytes();
        format!("10.{}.{low}", 128 + high % 128)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // A link is removed with either of its ends.
        let _ = run(&["link", "del", &self.uplink()]);
        for machine in 0..self.machines {
            let _ = run(&["-n", &self.switch(), "link", "del", &link(machine)]);
            let _ = run(&["netns", "del", &self.namespace(machine)]);
        }
        let _ = run(&["netns", "del", &self.switch()]);
    }
}

/// The bridge's end of a machine's link.
fn link(machine: usize) -> String {
    format!("machine{machine}")
}

fn run(arguments: &[&str]) -> std::io::Result<Output> {
    Command::new("ip").args(arguments).output()
}

fn ip(arguments: &[&str]) {
    let output = run(arguments).expect("ip(8) is installed");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {message}", arguments.join(" "));
}
