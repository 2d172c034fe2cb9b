//! Signs of life: the clock, the kernel's notices, health checks, and what they say of the hive as a whole.

use std::time::Instant;

use rbee_schema::{HiveEvent, WorkerName, WorkerPhase};
use tokio::time::timeout;
use tracing::{info, warn};

use super::{Report, Supervisor};
use crate::{
    decide::{lateness::Tick, worker::Event},
    http::Health,
    metrics, notify, probe,
    process::Process,
};

impl Supervisor {
    /// Waits for the end of a process, in a task of its own. The kernel is faster than the bus: a round trip brings in
    /// what the worker said last, among it the job that it had just taken.
    pub(super) fn watch(&mut self, worker: &WorkerName, process: Process) {
        let Some(charge) = self.charges.get(worker) else { return };
        let (worker, epoch, bus) = (worker.clone(), charge.worker.epoch, self.bus.clone());
        let last_beat = self.config.rules.timers.last_beat;
        self.tasks.spawn(async move {
            let status = process.ended().await;
            if !matches!(timeout(last_beat, bus.round_trip()).await, Ok(Ok(()))) {
                warn!(%worker, "the bus is slow; a job that this worker had just taken may come back only in its time");
            }
            Report::Exited(worker, epoch, status)
        });
    }

    /// The machine may be late: what waits for signs of life then waits longer.
    pub(super) fn hear_clock(&mut self) {
        let before = self.lateness.stretch();
        let tick = self.lateness.tick(Instant::now());
        let stretch = self.lateness.stretch();
        if stretch != before {
            self.rules.timers = self.config.rules.timers.stretched(stretch);
            let late = self.lateness.worst();
            info!(stretch, ?late, "waits for signs of life are stretched by how late this machine is");
        }
        if tick == Tick::StoodStill {
            self.was_deaf("this hive stood still");
        }
    }

    /// The bus went away or is back. Without it the hive keeps its workers, and what it has to tell.
    pub(super) fn bus_is(&mut self, online: bool) {
        metrics::bus_online(online);
        if online {
            self.health.send_replace(if self.draining { Health::Draining } else { Health::Online });
            self.was_deaf("the bus was away");
        } else {
            self.health.send_replace(Health::BusAway);
        }
    }

    /// Silence meanwhile means nothing.
    pub(super) fn was_deaf(&mut self, why: &str) {
        warn!(why, "nothing could be heard for a while; every worker is given its time anew");
        self.show_presence();
        for worker in self.charges.keys().cloned().collect::<Vec<_>>() {
            self.step(&worker, Event::WasDeaf);
        }
    }

    /// The kernel has news of a child: whether it was stopped is asked here, its end comes by itself.
    pub(super) fn look_for_frozen(&mut self) {
        let was_stopped = |process: &Option<Process>| process.as_ref().is_some_and(Process::was_stopped);
        let frozen = self.charges.iter().filter(|(_, charge)| was_stopped(&charge.process));
        for worker in frozen.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.step(&worker, Event::Frozen);
        }
    }

    /// Asks every worker that takes jobs how it is, each in a task of its own.
    pub(super) fn ask_health(&mut self) {
        let serving = self.charges.iter().filter(|(_, charge)| charge.worker.serves());
        for (name, charge) in serving {
            let Some(port) = charge.worker.record().port else { continue };
            let (worker, epoch) = (name.clone(), charge.worker.epoch);
            let limit = self.config.rules.timers.probe;
            let asking = async move { Report::Health { worker, epoch, well: probe::is_well(port, limit).await } };
            self.tasks.spawn(asking);
        }
    }

    /// Whether the hive as a whole is in trouble, or no longer.
    pub(super) fn look_at_strain(&mut self) {
        let looping = self.charges.values().filter(|charge| charge.worker.phase() == WorkerPhase::CrashLoop).count();
        let strained = self.strain.verdict(looping, Instant::now(), &self.config.rules);
        let verdict = strained.or_else(|| self.disagreement.clone());
        if verdict.is_some() == self.degraded.is_some() {
            return;
        }
        self.degraded.clone_from(&verdict);
        metrics::degraded(verdict.is_some());
        match verdict {
            Some(why) => {
                warn!(why, "the hive is degraded: load is better placed elsewhere");
                self.publish(HiveEvent::Degraded { why });
            }
            None => {
                info!("the hive is no longer degraded");
                self.publish(HiveEvent::Restored {});
            }
        }
        notify::status(&self.status());
        self.show_presence();
    }
}
