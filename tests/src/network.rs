//! Machines of a test: network namespaces, each with an address and a host name of its own, on one bridge.
//!
//! The bridge is this machine's end, where the server and the queen run. A machine is cut off by taking its link down, as
//! a pulled cable would. It needs the rights to make namespaces and links; see `Needs::Network` of the faults.

use std::process::{Command, Output};

use crate::port::Port;

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
        let bridge = network.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"]);
        ip(&["addr", "add", &format!("{}/24", network.address()), "dev", &bridge]);
        ip(&["link", "set", &bridge, "up"]);
        for machine in 0..machines {
            let (namespace, link) = (network.namespace(machine), network.link(machine));
            let address = format!("{}.{}/24", network.prefix(), machine + 2);
            ip(&["netns", "add", &namespace]);
            ip(&["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &namespace]);
            ip(&["link", "set", &link, "master", &bridge, "up"]);
            for inside in [
                &["addr", "add", &address, "dev", "eth0"][..],
                &["link", "set", "eth0", "up"],
                &["link", "set", "lo", "up"],
            ] {
                ip(&[&["-n", &namespace], inside].concat());
            }
        }
        network
    }

    /// The address of this machine on the bridge.
    pub fn address(&self) -> String {
        format!("{}.1", self.prefix())
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
        ip(&["link", "set", &self.link(machine), "down"]);
    }

    /// Plugs it in again.
    ///
    /// # Panics
    /// When the kernel does not let us.
    pub fn mend(&self, machine: usize) {
        ip(&["link", "set", &self.link(machine), "up"]);
    }

    fn bridge(&self) -> String {
        format!("rbee{}", self.number.number())
    }

    fn namespace(&self, machine: usize) -> String {
        format!("rbee{}-{machine}", self.number.number())
    }

    /// At most 15 characters.
    fn link(&self, machine: usize) -> String {
        format!("rbee{}v{machine}", self.number.number())
    }

    /// A network of 10.128.0.0/9 by our number.
    fn prefix(&self) -> String {
        let [high, low] = self.number.number().to_be_bytes();
        format!("10.{}.{low}", 128 + high % 128)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for machine in 0..self.machines {
            let _ = run(&["link", "del", &self.link(machine)]);
            let _ = run(&["netns", "del", &self.namespace(machine)]);
        }
        let _ = run(&["link", "del", &self.bridge()]);
    }
}

fn run(arguments: &[&str]) -> std::io::Result<Output> {
    Command::new("ip").args(arguments).output()
}

fn ip(arguments: &[&str]) {
    let output = run(arguments).expect("ip(8) is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {said}", arguments.join(" "));
}
