//! Faults, injected for real: signals, held ports, lost servers, full disks, and what the test engine does wrong when it
//! is told to.
//!
//! [`FAULTS`] is one list for the tests, which ask whether the outcome of each is right, and for `rbee-chaos`, which also
//! measures how long each takes. After every run the whole fleet is looked at: see [`check_invariants`].

mod faults;
mod history;
mod invariants;
mod story;

use std::time::{Duration, SystemTime};

use futures::future::LocalBoxFuture;

pub use self::{
    faults::FAULTS,
    invariants::check_invariants,
    story::{Story, Told},
};
use crate::fleet::Fleet;

/// The timers of the hives that faults are injected into: short ones, so that a fault can be injected many times. A fault
/// may set some of them otherwise. Workers beat every second, so that nothing which waits for beats can be shorter; and an
/// idle one looks up from its queue every second, so that it needs as long to end well.
pub const TIMERS: &str = "first_word=20s,load_stall=1s,suspect=1500ms,silent=3s,hang=2s,health=5s,drain=2s,term=2s,kill=2s,\
                          first_backoff=50ms,backoff=100ms,backoff_most=200ms,trial=60s,shutdown=10s";

/// One fault: what is injected, what the bounds are, and how it is done.
#[derive(Clone, Copy)]
pub struct Fault {
    /// Its name, as `rbee-chaos --only` takes it.
    pub name: &'static str,
    /// What is injected, in words.
    pub injected: &'static str,
    /// What has to become of it, in words.
    pub outcome: &'static str,
    /// How long it may take until somebody tells of it; `None` where there is nothing to tell.
    pub detected_within: Option<Duration>,
    /// How long it may take until the thing works again; `None` where nothing stops working, or nothing may come back.
    pub recovered_within: Option<Duration>,
    /// How long it may take, once the cause is taken away, until everything is as before; `None` where it is not taken
    /// away, or nothing has to change then.
    pub healed_within: Option<Duration>,
    /// How many ports its fleet needs.
    pub ports: u16,
    /// What the machine must be able to do for it.
    pub needs: Needs,
    /// Injects it and waits for its outcome.
    pub inject: for<'a> fn(&'a mut Fleet) -> LocalBoxFuture<'a, Measured>,
}

/// What a fault needs that not every machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// Namespaces of processes, and to say which number the next process has.
    ProcessNamespace,
    /// Namespaces of users and mounts.
    MountNamespace,
    /// Namespaces of networks, and links between them: its fleet has three machines.
    Network,
    /// The same, and a server of a cluster on each machine.
    Cluster,
}

/// What one run of a fault took.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measured {
    /// From the injection to the event that tells of it, by the server's clock, which is ours.
    pub detected: Option<Duration>,
    /// From the injection to the moment at which the thing works again.
    pub recovered: Option<Duration>,
    /// From the moment at which the cause is taken away to that at which everything is as before.
    pub healed: Option<Duration>,
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fault").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Fault {
    /// The fault of this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn named(name: &str) -> &'static Self {
        FAULTS.iter().find(|fault| fault.name == name).unwrap_or_else(|| panic!("there is no fault named `{name}`"))
    }

    /// Injects it into a new fleet, waits for its outcome, and looks at the whole.
    ///
    /// # Panics
    /// When its outcome or an invariant is not what it must be.
    pub async fn run(&self) -> Measured {
        let mut fleet = match self.needs {
            Needs::Network => Fleet::on_machines(3, self.ports).await,
            Needs::Cluster => Fleet::on_cluster(self.ports).await,
            Needs::Nothing | Needs::ProcessNamespace | Needs::MountNamespace => Fleet::with_ports(self.ports).await,
        };
        let measured = (self.inject)(&mut fleet).await;
        check_invariants(&fleet).await;
        measured
    }

    /// Why it cannot be injected on this machine, where it cannot.
    pub fn impossible(&self) -> Option<String> {
        self.needs.missing()
    }
}

impl Needs {
    /// What this machine says where it cannot do this.
    pub fn missing(self) -> Option<String> {
        let wrapper = self.probe()?;
        let tried = std::process::Command::new(wrapper[0]).args(&wrapper[1..]).output();
        match tried {
            Ok(output) if output.status.success() => None,
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                Some(format!("`{}` does not work here: {said}", wrapper.join(" ")))
            }
            Err(error) => Some(format!("{}: {error}", wrapper[0])),
        }
    }

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

impl Measured {
    /// Nothing that can be measured.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Told at one moment, mended at another, both counted from the injection.
    pub fn between(injected: SystemTime, told: SystemTime, mended: SystemTime) -> Self {
        Self { detected: Some(since(injected, told)), ..Self::mended(injected, mended) }
    }

    /// Told, and nothing comes back.
    pub fn told(injected: SystemTime, told: SystemTime) -> Self {
        Self { detected: Some(since(injected, told)), ..Self::default() }
    }

    /// Nobody tells, and it works at this moment.
    pub fn mended(injected: SystemTime, mended: SystemTime) -> Self {
        Self { recovered: Some(since(injected, mended)), ..Self::default() }
    }

    /// And everything was as before, this long after the cause was taken away.
    pub fn and_healed(self, taken_away: SystemTime, as_before: SystemTime) -> Self {
        Self { healed: Some(since(taken_away, as_before)), ..self }
    }
}

/// Zero where the clock was set back in between.
fn since(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}
