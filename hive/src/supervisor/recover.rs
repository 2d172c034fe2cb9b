//! Recovery of what an earlier run of this hive left: running workers are adopted, dead ones reaped, orphans killed.
//!
//! The ledger says what there should be, the kernel what there is. A process is taken for that of a ledger entry only if
//! its whole identity is the same: its number alone may belong to another program by now.

use std::{collections::BTreeSet, time::Instant};

use rbee_nats::{BusError, Registry};
use rbee_schema::{HiveEvent, PortLease, WorkerName};
use tracing::{info, warn};

use super::{
    managed::{ManagedWorker, RunningProcess},
    report::Report,
    state::Supervisor,
};
use crate::{
    count,
    decide::{
        admit::Need,
        worker::{Effect, ProcessExit, Recorded, Worker},
    },
    ledger::LedgerEntry,
    limits::group_name,
    metrics, output,
    process::{self, Process},
};

/// A worker of the ledger whose process still runs.
struct Living {
    name: WorkerName,
    entry: LedgerEntry,
    process: Process,
    port: u16,
}

impl Supervisor {
    pub(super) async fn recover(&mut self, entries: Vec<(WorkerName, LedgerEntry)>) -> Result<(), BusError> {
        let (living, dead) = sorted(entries);
        // Orphans first: they may hold a port or memory that a worker needs.
        let killed = self.kill_orphans(&living).await;
        let (adopted, ended) = (count::capped(living.len()), count::capped(dead.len()));
        for worker in living {
            self.adopt(worker).await;
        }
        for (name, entry) in dead {
            self.reap(name, entry);
        }
        let leases_released = self.release_leaked().await?;
        self.remove_stale_records().await?;
        self.prune_logs();
        if adopted + ended + killed + leases_released > 0 {
            info!(adopted, ended, killed, leases_released, "recovered from an earlier run of this hive");
            self.hive.publish(HiveEvent::Recovered { adopted, ended, killed, leases_released });
        }
        Ok(())
    }

    /// Kills processes of this hive's earlier runs that belong to no living worker. Returns how many.
    async fn kill_orphans(&self, living: &[Living]) -> u32 {
        let runs: BTreeSet<(WorkerName, u64)> =
            living.iter().map(|worker| (worker.name.clone(), worker.entry.record.epoch)).collect();
        let kept: BTreeSet<String> = runs.iter().map(|(worker, epoch)| group_name(worker, *epoch)).collect();
        let (state_id, enforcer) = (self.ledger.id().to_owned(), self.enforcer.clone());
        let kill = move || {
            let is_orphan = |mark: &process::RunMark| {
                mark.state_id == state_id && !runs.contains(&(mark.worker.clone(), mark.epoch))
            };
            let mut killed: BTreeSet<u32> = process::kill_marked(is_orphan).into_iter().collect();
            killed.extend(enforcer.sweep(|group| kept.contains(group)));
            killed
        };
        let killed = tokio::task::spawn_blocking(kill).await.unwrap_or_default();
        for pid in &killed {
            metrics::orphan_killed();
            warn!(pid, "killed a process that belongs to no worker");
        }
        count::capped(killed.len())
    }

    async fn adopt(&mut self, worker: Living) {
        let Living { name, entry, process, port } = worker;
        let lease = PortLease { hive_epoch: self.hive.epoch, ..entry.lease.clone() };
        let claim = self.adopt_lease(port, &lease).await;
        self.ports.book.adopt(port, &name);
        info!(worker = %name, pid = process.pid(), port, "adopted a running worker");
        let recorded = recorded(&name, &entry);
        let (worker, effects) = Worker::adopt(recorded, process.pid(), port, Instant::now(), &self.rules.timers);
        let limits = entry.spec.limits.or(self.hive.config.limits);
        let cgroup = self.enforcer.reopen(&name, entry.record.epoch, &limits, process.pid());
        let run = RunningProcess::new(process.clone(), cgroup.clone(), claim);
        let need = Some(Need::of(&entry.spec, None));
        self.workers.insert(name.clone(), ManagedWorker { run: Some(run), need, ..ManagedWorker::new(worker, lease) });
        self.watch(&name, process, cgroup);
        self.carry_out(&name, effects);
    }

    /// Handles a worker whose process ended while the hive was away, as if its exit had been seen now.
    fn reap(&mut self, name: WorkerName, entry: LedgerEntry) {
        info!(worker = %name, "a worker ended while its hive was away");
        let log = output::log_file(&self.hive.config.data, &name);
        let tail = output::tail(&log, entry.record.epoch, &self.hive.config.rules.bounds);
        let exit = ProcessExit { tail, draw: fastrand::f64(), ..ProcessExit::default() };
        if let Some(port) = entry.record.port {
            self.ports.book.adopt(port, &name);
        }
        let (worker, effects) = Worker::reap(recorded(&name, &entry), exit, Instant::now(), &self.rules);
        self.workers.insert(name.clone(), ManagedWorker::new(worker, entry.lease));
        // Its process tree was killed with the orphans.
        let effects = effects.into_iter().filter(|effect| *effect != Effect::Kill).collect();
        self.carry_out(&name, effects);
    }

    /// Removes the registry records of workers that are not on this hive any more.
    async fn remove_stale_records(&mut self) -> Result<(), BusError> {
        let prefix = format!("{}.", self.hive.config.name);
        let records = Registry::workers(&self.hive.bus);
        for (key, _) in records.all().await? {
            let worker: Option<WorkerName> = key.strip_prefix(&prefix).and_then(|name| name.parse().ok());
            if worker.is_some_and(|worker| !self.workers.contains_key(&worker)) {
                records.remove(&key).await?;
            }
        }
        Ok(())
    }

    fn prune_logs(&mut self) {
        let kept: BTreeSet<_> = self.workers.names().into_iter().collect();
        let (data, age) = (self.hive.config.data.clone(), self.hive.config.rules.timers.log_age);
        self.tasks.spawn_blocking(move || {
            output::prune(&data, &kept, age);
            Report::Done
        });
    }
}

/// Splits the entries of the ledger into workers whose process runs, and others.
fn sorted(entries: Vec<(WorkerName, LedgerEntry)>) -> (Vec<Living>, Vec<(WorkerName, LedgerEntry)>) {
    let (mut living, mut dead) = (Vec::new(), Vec::new());
    for (name, entry) in entries {
        match (entry.running(), entry.record.port) {
            (Some(process), Some(port)) => living.push(Living { name, entry, process, port }),
            _ => dead.push((name, entry)),
        }
    }
    (living, dead)
}

fn recorded(name: &WorkerName, entry: &LedgerEntry) -> Recorded {
    Recorded {
        name: name.clone(),
        model: entry.model.clone(),
        spec: entry.spec.clone(),
        record: entry.record.clone(),
        stop_reason: entry.stop_reason.clone(),
    }
}
