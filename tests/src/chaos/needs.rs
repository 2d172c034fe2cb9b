//! Abilities that a fault needs and not every machine has.

use std::process::Command;

/// An ability of the machine that runs the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// No special ability.
    Nothing,
    /// Process namespaces, and the right to choose the number of the next process.
    ProcessNamespace,
    /// User and mount namespaces.
    MountNamespace,
    /// Network namespaces and links between them: the fleet has three machines.
    Network,
    /// Network namespaces, and a server of a cluster on each of three machines.
    Cluster,
}

impl Needs {
    /// The reason why this machine lacks the ability; `None` where it has it.
    pub fn missing(self) -> Option<String> {
        let probe = self.probe()?;
        let tried = Command::new(probe[0]).args(&probe[1..]).output();
        match tried {
            Ok(output) if output.status.success() => None,
            Ok(output) => {
                let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                Some(format!("`{}` fails on this machine: {message}", probe.join(" ")))
            }
            Err(error) => Some(format!("failed to start {}: {error}", probe[0])),
        }
    }

    /// A command that succeeds where the ability is there.
    fn probe(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Nothing => None,
            Self::ProcessNamespace => {
                Some(&["unshare", "-pf", "--mount-proc", "sh", "-c", "echo 100 > /proc/sys/kernel/ns_last_pid"])
            }
            Self::Network | Self::Cluster => {
                Some(&["unshare", "--net", "--uts", "ip", "link", "add", "name", "rbee", "type", "bridge"])
            }
            Self::MountNamespace => Some(&["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]),
        }
    }
}
