//! What an earlier run of this hive left: live workers are adopted, ended ones are processed, and what is nobody's is ended.
//!
//! The ledger says what there should be, the kernel what there is. A worker is taken for the one in the ledger only if
//! its whole identity is the same; its number alone may be a stranger's by now.

use std::{collections::BTreeSet, time::Instant};

use rbee_nats::{BusError, ClaimError, PortClaim, Registry};
use rbee_schema::{HiveEvent, PortLease, WorkerName};
use tracing::{info, warn};

use super::{Charge, Supervisor, hear::draw, number};
use crate::{
    decide::{
        admit::Need,
        worker::{Effect, Ended, Remembered, Worker},
    },
    ledger::Page,
    limits::group_name,
    metrics, output,
    process::{self, Process},
};

impl Supervisor {
    pub(super) async fn recover(&mut self) -> Result<(), BusError> {
        let pages = self.ledger.pages();
        let alive = |page: &Page| {
            let identity = page.process.as_ref()?;
            Process::open(identity.pid).ok().filter(|process| process.identity == *identity)
        };
        let (living, dead): (Vec<_>, Vec<_>) = pages
            .into_iter()
            .map(|(worker, page)| (alive(&page), worker, page))
            .partition(|(process, ..)| process.is_some());

        // First of all: nobody may hold a port or a card for a worker that is not there.
        let runs: BTreeSet<_> = living.iter().map(|(_, worker, page)| (worker.clone(), page.record.epoch)).collect();
        let kept: BTreeSet<String> = runs.iter().map(|(worker, epoch)| group_name(worker, *epoch)).collect();
        let state_id = self.ledger.id().to_owned();
        let doomed =
            move |run: &process::Run| run.state_id == state_id && !runs.contains(&(run.worker.clone(), run.epoch));
        let (enforcer, kept) = (self.enforcer.clone(), kept);
        let kill = move || {
            let mut killed = process::kill_marked(doomed);
            killed.extend(enforcer.sweep(|group| kept.contains(group)));
            killed.sort_unstable();
            killed.dedup();
            killed
        };
        let killed = tokio::task::spawn_blocking(kill).await.unwrap_or_default();
        for pid in &killed {
            metrics::orphan_killed();
            warn!(pid, "a process that belongs to no worker was killed");
        }

        let (adopted, ended) = (number(living.len()), number(dead.len()));
        for (process, worker, page) in living {
            if let Some(process) = process {
                self.adopt(worker, page, process).await;
            }
        }
        for (_, worker, page) in dead {
            self.bury(worker, page);
        }
        let leases_released = self.release_leaked().await?;
        self.forget_records().await?;
        let (data, kept) = (self.config.data.clone(), self.charges.keys().cloned().collect::<BTreeSet<_>>());
        let age = self.config.rules.timers.log_age;
        self.tasks.spawn_blocking(move || {
            output::prune(&data, &kept, age);
            super::Report::Done
        });
        if adopted + ended + number(killed.len()) + leases_released > 0 {
            let killed = number(killed.len());
            info!(adopted, ended, killed, leases_released, "what an earlier run left is looked after");
            self.publish(HiveEvent::Recovered { adopted, ended, killed, leases_released });
        }
        Ok(())
    }

    async fn adopt(&mut self, name: WorkerName, page: Page, process: Process) {
        let lease = PortLease { hive_epoch: self.epoch, ..page.lease.clone() };
        let port = page.record.port.unwrap_or(0);
        let claim = match self.leases.adopt(port, &lease).await {
            Ok(claim) => Some(claim),
            Err(ClaimError::Held(other)) => {
                warn!(worker = %name, port, hive = %other.hive, "the port of a living worker is leased by another hive");
                None
            }
            Err(ClaimError::Bus(error)) => {
                warn!(worker = %name, port, %error, "the lease of a living worker is renewed later");
                Some(PortClaim { port, revision: 0 })
            }
        };
        self.ports.adopt(port, &name);
        info!(worker = %name, pid = process.pid(), port, "a living worker is adopted");
        let remembered = remembered(&name, &page);
        let (worker, effects) = Worker::adopt(remembered, process.pid(), port, Instant::now(), &self.rules.timers);
        let limits = page.spec.limits.or(self.config.limits);
        let cage = self.enforcer.reopen(&name, page.record.epoch, &limits, process.pid());
        let charge = Charge {
            process: Some(process.clone()),
            cage: Some(cage),
            need: Some(Need::of(&page.spec, None)),
            claim,
            page: Some(page),
            ..Charge::new(worker, lease)
        };
        self.charges.insert(name.clone(), charge);
        self.watch(&name, process);
        self.carry_out(&name, effects);
    }

    fn bury(&mut self, name: WorkerName, page: Page) {
        info!(worker = %name, "a worker ended while its hive was away");
        let log = output::log_file(&self.config.data, &name);
        let tail = output::tail(&log, page.record.epoch, &self.config.rules.bounds);
        let ended = Ended { tail, draw: draw(), ..Ended::default() };
        let port = page.record.port;
        if let Some(port) = port {
            self.ports.adopt(port, &name);
        }
        let claim = port.map(|port| PortClaim { port, revision: 0 });
        let remembered = remembered(&name, &page);
        let (worker, effects) = Worker::bury(remembered, ended, port, Instant::now(), &self.rules);
        let lease = page.lease.clone();
        let charge = Charge { claim, page: Some(page), ..Charge::new(worker, lease) };
        self.charges.insert(name.clone(), charge);
        // The tree of its process has been ended with what is nobody's.
        let effects = effects.into_iter().filter(|effect| *effect != Effect::Kill).collect();
        self.carry_out(&name, effects);
    }

    /// Releases the leases of this hive that no worker has.
    async fn release_leaked(&mut self) -> Result<u32, BusError> {
        let mut released = 0;
        for (key, lease) in Registry::ports(&self.bus).all().await? {
            let port = key.strip_prefix(&format!("{}.", self.config.host)).and_then(|port| port.parse().ok());
            let Some(port) = port else { continue };
            if lease.hive == self.config.name && !self.ports.is_of(port, &lease.worker) {
                self.leases.release(PortClaim { port, revision: 0 }, &lease).await?;
                self.tell_reclaimed(port, &lease.worker);
                released += 1;
            }
        }
        Ok(released)
    }

    /// Removes the records of workers that are not there any more.
    async fn forget_records(&mut self) -> Result<(), BusError> {
        let prefix = format!("{}.", self.config.name);
        for (key, _) in self.records.all().await? {
            let worker: Option<WorkerName> = key.strip_prefix(&prefix).and_then(|name| name.parse().ok());
            if worker.is_some_and(|worker| !self.charges.contains_key(&worker)) {
                self.records.remove(&key).await?;
            }
        }
        Ok(())
    }
}

fn remembered(name: &WorkerName, page: &Page) -> Remembered {
    Remembered {
        name: name.clone(),
        model: page.model.clone(),
        spec: page.spec.clone(),
        record: page.record.clone(),
        unwanted: page.unwanted.clone(),
    }
}
