//! Machines of a test: network namespaces, each with an address and a host name of its own, on one bridge.
//!
//! The bridge stands in a namespace of its own; this machine, where queen and server run, has a link to it. A machine is cut off by taking its link down, as
//! a pulled cable would. It needs the rights to make namespaces and links; see `Needs::Network` of the faults.

use std::process::{Command, Output};

use crate::port::Port;

const BRIDGE: &str = "bridge";

/// One bridge and the machines on it. They go when this is dropped.
#[derive(Debug)]
pub struct Network {
    /// Keeps other tests off the number that our names and addresses are made of.
    number: Port,
    machines: usize,
}

impl Network {
    /// Makes a bridge with so many machines.
    ///
    /// # Panics
    /// When the kernel does not let us.
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
            network.plug_in(machine);
        }
        network
    }

    fn plug_in(&self, machine: usize) {
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

    /// The words before a command that runs on a machine. The process that starts is the command itself in the end.
    pub fn enter(&self, machine: usize) -> Vec<String> {
        let namespace = format!("--net=/run/netns/{}", self.namespace(machine));
        ["nsenter", &namespace, "unshare", "--uts"].map(str::to_owned).to_vec()
    }

    /// Pulls the cable of a machine.
    ///
    /// # Panics
    /// When the kernel does not let us.
    pub fn cut(&self, machine: usize) {
        ip(&["-n", &self.switch(), "link", "set", &link(machine), "down"]);
    }

    /// Plugs it in again.
    ///
    /// # Panics
    /// When the kernel does not let us.
    pub fn mend(&self, machine: usize) {
        ip(&["-n", &self.switch(), "link", "set", &link(machine), "up"]);
    }

    /// The namespace of the bridge: where nobody filters what passes it, as container engines do on the machine itself.
    fn switch(&self) -> String {
        format!("rbee{}", self.number.number())
    }

    /// This machine's link to the bridge; at most 15 characters.
    fn uplink(&self) -> String {
        format!("rbee{}up", self.number.number())
    }

    fn namespace(&self, machine: usize) -> String {
        format!("rbee{}-{machine}", self.number.number())
    }

    /// A network of 10.128.0.0/9 by our number.
    fn prefix(&self) -> String {
        let [high, low] = self.number.number().to_be_bytes();
        format!("10.{}.{low}", 128 + high % 128)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // A link goes with either of its ends.
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
    let output = run(arguments).expect("ip(8) is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {said}", arguments.join(" "));
}
