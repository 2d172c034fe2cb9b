//! Injects random faults, and starts again what a supervisor of the operating system would start.

use std::{collections::BTreeMap, process::Command, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::schedule::{RandomFault, Schedule, Target};
use crate::{
    fleet::{Fleet, HiveSetup},
    relay::Relay,
};

const QUEENS: [&str; 2] = ["queen", "queen-2"];
const HIVES: [&str; 2] = ["one", "two"];

/// Timers of the hives. Restarts come quickly, because faults do.
const TIMERS: &str = "first_backoff=50ms,backoff=100ms,backoff_most=500ms,shutdown=10s";

/// Limits of the hives: many kills are no crash loop here.
const LIMITS: &str = "loop_exits=1000000,degraded_loops=1000000,degraded_exits=1000000";

/// Something that ends a fault.
#[derive(Debug, PartialEq, Eq)]
enum Remedy {
    Thaw(u32),
    StartQueen(&'static str),
    StartHive(&'static str),
    StartServer,
    RestoreClients,
}

/// The fleet under attack.
pub(super) struct Injector<'a> {
    pub(super) fleet: &'a mut Fleet,
    relay: &'a Relay,
    remedies: Vec<(Instant, Remedy)>,
}

impl<'a> Injector<'a> {
    /// Starts two queens and two hives.
    pub(super) async fn start(fleet: &'a mut Fleet, relay: &'a Relay) -> Self {
        let injector = Self { fleet, relay, remedies: Vec::new() };
        injector.fleet.queen().await;
        injector.fleet.queen_named(QUEENS[1], "").await;
        for hive in HIVES {
            let setup = injector.hive(hive);
            injector.fleet.start_hive(&setup).await;
        }
        injector
    }

    /// Injects faults until `ended`, then ends all of them. Returns the number of faults of each kind.
    pub(super) async fn inject(
        mut self,
        mut schedule: Schedule,
        mut ended: watch::Receiver<bool>,
    ) -> BTreeMap<&'static str, u32> {
        let mut faults = BTreeMap::new();
        let (pause, mut next) = schedule.next();
        let mut due = Instant::now() + pause;
        loop {
            let remedy = self.remedies.iter().map(|(at, _)| *at).min();
            let at = remedy.map_or(due, |remedy| remedy.min(due));
            tokio::select! {
                _ = ended.wait_for(|ended| *ended) => break,
                // Timer: the pause between two faults, and the duration of a fault, are part of the fault.
                () = sleep_until(at) => {}
            }
            self.remedy(|at| at <= Instant::now()).await;
            if Instant::now() >= due {
                if self.begin(next).await {
                    *faults.entry(next.name()).or_default() += 1;
                }
                let (pause, fault) = schedule.next();
                (due, next) = (Instant::now() + pause, fault);
            }
        }
        self.remedy(|_| true).await;
        faults
    }

    /// Begins a fault. Returns false if there is no process that it could hit.
    async fn begin(&mut self, fault: RandomFault) -> bool {
        let after = |duration: Duration| Instant::now() + duration;
        match fault {
            RandomFault::CutClients { cut } => {
                self.relay.cut();
                self.remedies.push((after(cut), Remedy::RestoreClients));
                true
            }
            RandomFault::Freeze { target, pick, frozen } => {
                let Some((pid, _)) = self.target(target, pick) else { return false };
                if send(pid, "STOP") {
                    self.remedies.push((after(frozen), Remedy::Thaw(pid)));
                }
                true
            }
            RandomFault::Kill { target, pick, down } => {
                let Some((pid, role)) = self.target(target, pick) else { return false };
                self.kill(target, pid, role, after(down)).await;
                true
            }
        }
    }

    async fn kill(&mut self, target: Target, pid: u32, role: &'static str, again: Instant) {
        match target {
            Target::Worker => drop(send(pid, "KILL")),
            Target::Hive => {
                self.fleet.kill_role(role);
                self.remedies.push((again, Remedy::StartHive(role)));
            }
            Target::Queen => {
                self.fleet.kill_role(role);
                self.remedies.push((again, Remedy::StartQueen(role)));
            }
            Target::Server => {
                // A frozen server is thawed by its death.
                self.remedies.retain(|(_, remedy)| *remedy != Remedy::Thaw(pid));
                self.fleet.server.kill().await;
                self.remedies.push((again, Remedy::StartServer));
            }
        }
    }

    /// A running process of this kind, and the name of its role.
    fn target(&self, target: Target, pick: usize) -> Option<(u32, &'static str)> {
        let is_down = |role: &str| {
            self.remedies.iter().any(|(_, remedy)| match remedy {
                Remedy::StartQueen(down) | Remedy::StartHive(down) => *down == role,
                Remedy::Thaw(_) | Remedy::StartServer | Remedy::RestoreClients => false,
            })
        };
        let role = |roles: [&'static str; 2]| {
            let role = roles[pick % roles.len()];
            (!is_down(role)).then(|| (self.fleet.role_pid(role), role))
        };
        match target {
            Target::Worker => {
                let workers: Vec<u32> = self
                    .fleet
                    .running()
                    .into_iter()
                    .filter(|process| process.run.is_some())
                    .map(|process| process.pid)
                    .collect();
                (!workers.is_empty()).then(|| (workers[pick % workers.len()], ""))
            }
            Target::Hive => role(HIVES),
            Target::Queen => role(QUEENS),
            Target::Server => {
                let is_down = self.remedies.iter().any(|(_, remedy)| *remedy == Remedy::StartServer);
                // A server in a container cannot be frozen or killed by its process number.
                self.fleet.server.pid().filter(|_| !is_down).map(|pid| (pid, ""))
            }
        }
    }

    /// Ends the faults whose time has come.
    async fn remedy(&mut self, is_due: impl Fn(Instant) -> bool) {
        let (due, left) = std::mem::take(&mut self.remedies).into_iter().partition(|(at, _)| is_due(*at));
        self.remedies = left;
        let due: Vec<(Instant, Remedy)> = due;
        for (_, remedy) in due {
            match remedy {
                // The process may have been killed meanwhile.
                Remedy::Thaw(pid) => drop(send(pid, "CONT")),
                Remedy::RestoreClients => self.relay.restore(),
                Remedy::StartServer => self.fleet.server.restart().await,
                Remedy::StartQueen(name) => {
                    let mut command = self.fleet.command();
                    command.args(["queen", "--http", "127.0.0.1:0", "--queen-name", name]);
                    self.fleet.launch(name, command);
                }
                Remedy::StartHive(name) => {
                    let setup = self.hive(name);
                    self.fleet.launch_hive(&setup);
                }
            }
        }
    }

    fn hive(&self, name: &'static str) -> HiveSetup {
        let range = self.fleet.ports.range();
        let (first, last) = range.split_once('-').expect("a range");
        let (first, last): (u16, u16) = (first.parse().expect("a port"), last.parse().expect("a port"));
        let middle = first + (last - first) / 2;
        let ports = if name == HIVES[0] { (first, middle) } else { (middle + 1, last) };
        HiveSetup {
            role: name.to_owned(),
            name: name.to_owned(),
            ports: format!("{}-{}", ports.0, ports.1),
            data: self.fleet.folder().join(name),
            arguments: vec!["--hive-limits".to_owned(), LIMITS.to_owned()],
            ..self.fleet.hive_one(TIMERS)
        }
    }
}

/// Sends a signal to a process of the fleet. Returns false if it has exited.
fn send(pid: u32, signal: &str) -> bool {
    Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status().is_ok_and(|status| status.success())
}
