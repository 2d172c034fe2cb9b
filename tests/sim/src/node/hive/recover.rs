//! Recovery of what an earlier run of a hive left, as `hive/src/supervisor/recover.rs` does it.

use rbee_hive::decide::worker::{Effect, ProcessExit, Recorded, Worker};
use rbee_schema::{PortLease, WorkerName};

use super::{
    launch::pid_of,
    leases::all,
    ledger::Entry,
    state::{Managed, Run, Supervisor},
};
use crate::{
    node::{cell::Found, child::Child},
    words::Body,
};

impl Supervisor {
    pub(super) async fn recover(&mut self) {
        let entries: Vec<(WorkerName, Entry)> = {
            let ledger = self.machine.ledger.borrow();
            ledger.entries.iter().map(|(name, entry)| (name.clone(), entry.clone())).collect()
        };
        let mut living = Vec::new();
        let mut dead = Vec::new();
        for (name, entry) in entries {
            let child = entry.has_process.then(|| self.site.child(&self.machine.hive, &name, entry.record.epoch));
            match (child.flatten(), entry.record.port) {
                (Some(child), Some(port)) => living.push((name, entry, child, port)),
                _ => dead.push((name, entry)),
            }
        }
        for child in self.site.children() {
            let is_kept = living.iter().any(|(_, _, kept, _)| kept.process().number() == child.process().number());
            if child.worker().0 == self.machine.hive && !is_kept {
                self.process.log(|| format!("kills the orphan {child:?}"));
                self.site.kill_child(&child);
            }
        }
        for (name, entry, child, port) in living {
            self.adopt(name, entry, &child, port).await;
        }
        for (name, entry) in dead {
            self.reap(name, entry);
        }
        self.release_leaked().await;
    }

    async fn adopt(&mut self, name: WorkerName, entry: Entry, child: &Child, port: u16) {
        let lease = PortLease { hive_epoch: self.epoch, ..entry.lease.clone() };
        let revision = self.adopt_lease(port, &lease).await;
        self.book.adopt(port, &name);
        self.process.log(|| format!("adopts {child:?} on port {port}"));
        let now = self.process.now();
        let (worker, effects) = Worker::adopt(recorded(&name, entry), pid_of(child), port, now, &self.rules.timers);
        let run = Run { child: child.clone(), port, revision };
        let managed = Managed { run: Some(run), is_admitted: true, ..Managed::new(worker, lease) };
        self.workers.insert(name.clone(), managed);
        self.watch(&name, child);
        if !child.process().is_alive() {
            child.exited(crate::node::child::Exit::default());
        }
        self.carry_out(&name, effects);
    }

    async fn adopt_lease(&self, port: u16, lease: &PortLease) -> Option<u64> {
        let cell = self.cell(port);
        let revision = match cell.read().await.ok()? {
            Found::Free(revision) => revision,
            Found::Held(Body::Lease(found), revision) if found.hive == lease.hive && found.worker == lease.worker => {
                revision
            }
            Found::Held(..) => return None,
        };
        Some(cell.write(Body::Lease(lease.clone().into()), revision).await.ok().flatten().unwrap_or(0))
    }

    fn reap(&mut self, name: WorkerName, entry: Entry) {
        let exit = ProcessExit { draw: self.site.runtime.draw(fastrand::Rng::f64), ..ProcessExit::default() };
        if let Some(port) = entry.record.port {
            self.book.adopt(port, &name);
        }
        let lease = entry.lease.clone();
        let now = self.process.now();
        let (worker, effects) = Worker::reap(recorded(&name, entry), exit, now, &self.rules);
        self.workers.insert(name.clone(), Managed::new(worker, lease));
        let effects = effects.into_iter().filter(|effect| *effect != Effect::Kill).collect();
        self.carry_out(&name, effects);
    }

    async fn release_leaked(&mut self) {
        let prefix = format!("ports.{}.", self.machine.host);
        let Ok(leases) = all(&self.connection, "ports", &prefix).await else { return };
        for (key, body) in leases {
            let (Ok(port), Body::Lease(lease)) = (key.parse::<u16>(), body) else { continue };
            if lease.hive != self.machine.hive {
                self.book.leased_by(port, lease.hive.clone());
            } else if !self.book.is_of(port, &lease.worker) {
                let released = self.cell(port).release(&Body::Lease(lease.clone()), 0).await.ok().flatten();
                self.released(port, &lease.worker, released, false);
            }
        }
    }
}

fn recorded(name: &WorkerName, entry: Entry) -> Recorded {
    let Entry { model, spec, record, stop_reason, .. } = entry;
    Recorded { name: name.clone(), model, spec, record, stop_reason }
}
