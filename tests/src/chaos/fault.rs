//! One fault of the catalogue, and a run of it.

use std::time::Duration;

use futures::future::LocalBoxFuture;

use super::{invariants::check_invariants, measured::Measured, needs::Needs};
use crate::fleet::Fleet;

/// A fault: its description, its time limits, and the function that injects it.
#[derive(Clone, Copy)]
pub struct Fault {
    /// Name of the fault, as `rbee-chaos --only` takes it.
    pub name: &'static str,
    /// Description of the injection.
    pub injected: &'static str,
    /// Description of the required outcome.
    pub outcome: &'static str,
    /// Longest time from the injection to the event that reports it; `None` where no event does.
    pub detected_within: Option<Duration>,
    /// Longest time from the injection until the service works again; `None` where nothing stops working, or nothing may
    /// come back.
    pub recovered_within: Option<Duration>,
    /// Longest time from the removal of the cause until everything is as before; `None` where the cause stays, or nothing
    /// has to change.
    pub healed_within: Option<Duration>,
    /// Number of ports that its fleet needs.
    pub ports: u16,
    /// Ability of the machine that the injection needs.
    pub needs: Needs,
    /// Injects the fault and waits for its outcome.
    pub inject: for<'a> fn(&'a mut Fleet) -> LocalBoxFuture<'a, Measured>,
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fault").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Fault {
    /// Injects the fault into a new fleet, waits for its outcome, and checks the invariants of the whole fleet.
    ///
    /// # Panics
    /// When the outcome or an invariant is violated.
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

    /// The reason why this machine cannot inject the fault; `None` where it can.
    pub fn impossible(&self) -> Option<String> {
        self.needs.missing()
    }
}
