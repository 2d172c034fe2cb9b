//! Starting a worker: admission, the lease of a port, the process, as `admission.rs`, `launching.rs` and `launch.rs` of the hive do.

use rbee_hive::decide::{
    admit::{Need, Room, admit},
    worker::Event as Happened,
};
use rbee_schema::{Device, HiveName, HostName, PortLease, WorkerName};

use super::state::{Event, Launched, Run, Supervisor};
use crate::{
    network::{Away, Connection},
    node::{
        cell::{Cell, Claimed},
        child::Child,
        site::Site,
        worker::{self, Identity},
    },
    runtime::Process,
    words::Body,
};

/// Memory of a simulated machine in bytes.
const MEMORY: u64 = 64 << 30;

/// Everything that a start needs.
struct Launch {
    site: Site,
    connection: Connection,
    host: HostName,
    port: u16,
    revision: u64,
    lease: PortLease,
    identity: Identity,
}

impl Supervisor {
    pub(super) fn start(&mut self, name: &WorkerName) {
        let Some(managed) = self.workers.get(name) else { return };
        let need = Need::of(&managed.worker.spec, None);
        let others = self.workers.iter().filter(|(other, managed)| *other != name && managed.is_admitted).count();
        let room = Room {
            memory_total: MEMORY,
            memory_available: MEMORY,
            memory_reserved: 0,
            gpu_free: None,
            disk_free: MEMORY,
            devices: &[Device::Cpu],
            workers: u32::try_from(others).unwrap_or(u32::MAX),
            max_workers: Some(16),
            draining: false,
        };
        if let Err(failure) = admit(&need, &room) {
            return self.step(name, Happened::NotStarted(failure));
        }
        if let Some(managed) = self.workers.get_mut(name) {
            managed.is_admitted = true;
        }
        self.launch(name);
    }

    fn launch(&mut self, name: &WorkerName) {
        let Some(managed) = self.workers.get(name) else { return };
        if let Some(why) = managed.worker.stop_reason() {
            let failed = Happened::not_started("start a worker", why);
            return self.step(name, failed);
        }
        let (port, revision) = match self.book.take(name, self.process.now()) {
            Ok(taken) => taken,
            Err(failure) => return self.step(name, Happened::NotStarted(failure)),
        };
        let launch = Launch {
            site: self.site.clone(),
            connection: self.connection.clone(),
            host: self.machine.host.clone(),
            port,
            revision,
            lease: managed.lease.clone(),
            identity: Identity {
                hive: self.machine.hive.clone(),
                worker: name.clone(),
                model: managed.worker.model.clone(),
                epoch: managed.worker.epoch,
                slots: managed.worker.spec.slots,
            },
        };
        let (mailbox, name) = (self.mailbox.clone(), name.clone());
        self.process.spawn(async move {
            let launched = launch.run().await;
            mailbox.put(Event::Launched(name, launched));
        });
    }

    pub(super) fn launched(&mut self, name: &WorkerName, launched: Launched) {
        match launched {
            Launched::Running(run) => {
                let (pid, port) = (pid_of(&run.child), run.port);
                self.watch(name, &run.child);
                if let Some(managed) = self.workers.get_mut(name) {
                    managed.run = Some(run);
                }
                self.step(name, Happened::Started { pid, port });
            }
            Launched::Held { port, by } => {
                self.book.lost_to(port, by);
                self.launch(name);
            }
            Launched::Foreign { port, revision } => {
                self.book.is_foreign(port, self.process.now());
                self.release_lease(name, port, revision, false);
                self.launch(name);
            }
            Launched::NotLeased { port } => {
                self.book.give_back(port, name);
                self.step(name, Happened::not_started("lease a port", "the server did not answer"));
            }
        }
    }

    /// Receives what the kernel reports about a process.
    pub(super) fn watch(&self, name: &WorkerName, child: &Child) {
        let (mailbox, name, epoch) = (self.mailbox.clone(), name.clone(), child.epoch());
        child.watch(&self.process, move |news| mailbox.put(Event::News(name.clone(), epoch, news)));
    }
}

impl Launch {
    async fn run(self) -> Launched {
        let Self { site, connection, host, port, revision, lease, identity } = self;
        let time_to_live = Some(site.settings.hive.timers.port_lease);
        let cell = Cell::new(&connection, "ports", &format!("{host}.{port}"), time_to_live);
        let revision = match cell.claim(Body::Lease(lease.into()), revision).await {
            Ok(Claimed::Ours(revision)) => revision,
            Ok(Claimed::Held(found)) => return Launched::Held { port, by: holder(found, &identity.hive) },
            Err(Away) => return Launched::NotLeased { port },
        };
        if site.judge.is_bound(&host, port) {
            site.judge.leased_in_use(&host, port);
            return Launched::Foreign { port, revision };
        }
        let process = Process::begin(&site.runtime, &format!("worker/{}/{}", identity.hive, identity.worker));
        let child = Child::new(process, (identity.hive.clone(), identity.worker.clone()), identity.epoch);
        site.judge.bound(&host, port, child.process());
        site.add_child(child.clone());
        worker::start(&site, &child, identity);
        Launched::Running(Run { child, port, revision: Some(revision) })
    }
}

pub(super) fn pid_of(child: &Child) -> u32 {
    u32::try_from(child.process().number()).unwrap_or(u32::MAX)
}

fn holder(found: Body, ours: &HiveName) -> HiveName {
    match found {
        Body::Lease(lease) => lease.hive.clone(),
        _ => ours.clone(),
    }
}
