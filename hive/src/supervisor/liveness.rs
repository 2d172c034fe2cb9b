//! Signs of life: the clock, the kernel's notices of processes, health checks, and the connection to the bus.

use std::time::Instant;

use rbee_schema::{HiveEvent, WorkerName};
use tokio::{
    task::spawn_blocking,
    time::{Duration, timeout},
};
use tracing::{info, warn};

use super::{condition::Change, report::Report, state::Supervisor};
use crate::{
    decide::{
        lateness::Tick,
        worker::{Event, ProcessExit},
    },
    limits::{self, WorkerCgroup},
    metrics, notify, output, probe,
    process::{ExitStatus, Process},
};

impl Supervisor {
    /// Waits in a task of its own until a process has exited, and reports how.
    ///
    /// The kernel is faster than the bus. A round trip to the server makes sure that the worker's last heartbeat is here,
    /// with the job that it had just taken.
    pub(super) fn watch(&mut self, worker: &WorkerName, process: Process, cgroup: WorkerCgroup) {
        let Some(managed) = self.workers.get(worker) else { return };
        let (worker, epoch, bus) = (worker.clone(), managed.worker.epoch, self.hive.bus.clone());
        let last_beat: Duration = self.hive.config.rules.timers.last_beat;
        let log = output::log_file(&self.hive.config.data, &worker);
        let bounds = self.hive.config.rules.bounds.clone();
        self.tasks.spawn(async move {
            let status = process.ended().await.unwrap_or_default();
            let exit = spawn_blocking(move || exit_of(status, output::tail(&log, epoch, &bounds), &cgroup));
            // Timer: longest wait for the last heartbeat of a process that has exited.
            let (round_trip, exit) = tokio::join!(timeout(last_beat, bus.round_trip()), exit);
            if !matches!(round_trip, Ok(Ok(()))) {
                warn!(%worker, "the bus is slow; a job that this worker had just taken is redelivered only by its timeout");
            }
            Report::Exited { worker, epoch, exit: exit.unwrap_or_default() }
        });
    }

    pub(super) fn exited(&mut self, worker: &WorkerName, epoch: u64, exit: ProcessExit) {
        if self.workers.get(worker).is_none_or(|managed| managed.worker.epoch != epoch) {
            return; // A run that is over already.
        }
        info!(%worker, code = exit.code, signal = exit.signal, "a worker process has exited");
        self.step(worker, Event::Exited(exit));
        self.update_condition();
    }

    /// Handles a tick of the clock. On a late machine, timeouts of workers are stretched.
    pub(super) fn handle_tick(&mut self) {
        let before = self.machine.lateness().stretch();
        let tick = self.machine.tick(Instant::now());
        let stretch = self.machine.lateness().stretch();
        if stretch != before {
            self.rules.timers = self.hive.config.rules.timers.stretched(stretch);
            let late = self.machine.lateness().worst();
            info!(stretch, ?late, "this machine is late: timeouts of workers are multiplied by `stretch`");
        }
        if tick == Tick::StoodStill {
            self.excuse_workers("this hive stood still");
        }
    }

    /// Handles the loss and the return of the connection. Without it the hive keeps its workers, and queues its events.
    pub(super) fn connection_changed(&mut self, is_online: bool) {
        metrics::bus_online(is_online);
        self.availability.connected(is_online);
        if is_online {
            self.excuse_workers("the bus was away");
            self.compare_with_registries();
        }
    }

    /// Restarts the timeouts of all workers: while the hive could receive nothing, missing heartbeats meant nothing.
    fn excuse_workers(&mut self, why: &str) {
        warn!(why, "no heartbeat could be received for a while; the timeouts of all workers start again");
        self.publish_presence();
        for worker in self.workers.names() {
            self.step(&worker, Event::ObservationGap);
        }
    }

    /// Handles SIGCHLD by looking for stopped processes. Exits are reported by the tasks of [`watch`](Self::watch).
    pub(super) fn check_frozen(&mut self) {
        for worker in self.workers.frozen() {
            self.step(&worker, Event::Frozen);
        }
    }

    /// Checks the health of every worker that takes jobs, each in a task of its own.
    pub(super) fn check_health(&mut self) {
        let limit = self.hive.config.rules.timers.probe;
        for (name, managed) in self.workers.iter().filter(|(_, managed)| managed.worker.serves()) {
            let Some(port) = managed.worker.record().port else { continue };
            let (worker, epoch) = (name.clone(), managed.worker.epoch);
            self.tasks.spawn(async move {
                let healthy = probe::is_healthy(port, limit).await;
                Report::Health { worker, epoch, healthy }
            });
        }
    }

    pub(super) fn health_checked(&mut self, worker: &WorkerName, epoch: u64, healthy: bool) {
        if !healthy {
            metrics::health_check_failed();
        }
        self.step(worker, Event::Health { epoch, healthy });
    }

    /// Updates the verdict about the hive, and publishes a change.
    pub(super) fn update_condition(&mut self) {
        let looping = self.workers.crash_looping();
        let Some(change) = self.condition.update(looping, Instant::now(), &self.hive.config.rules) else { return };
        metrics::degraded(matches!(change, Change::Degraded(_)));
        match change {
            Change::Degraded(why) => {
                warn!(why, "the hive is degraded: load is better placed on other hives");
                self.hive.publish(HiveEvent::Degraded { why });
            }
            Change::Recovered => {
                info!("the hive is no longer degraded");
                self.hive.publish(HiveEvent::Restored {});
            }
        }
        notify::status(&self.status());
        self.publish_presence();
    }
}

/// Everything that is known of an exit. The counter of the cgroup says whether the kernel ran out of memory; without a
/// counter, the last output does.
pub(super) fn exit_of(status: ExitStatus, tail: Vec<String>, cgroup: &WorkerCgroup) -> ProcessExit {
    let ExitStatus { code, signal } = status;
    let out_of_memory = cgroup.oom_kills().map_or_else(|| limits::looks_like_oom(&tail), |kills| kills > 0);
    ProcessExit { code, signal, out_of_memory, tail, draw: fastrand::f64() }
}
