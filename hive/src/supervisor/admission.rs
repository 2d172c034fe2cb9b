//! From a wish to a start: is there room, is the model here, then the launch. Part of step 3 of a
//! job's path.

use std::{
    io::{self, Write as _},
    time::Instant,
};

use rbee_schema::{ByteSize, Failure, FailureCode, FileRecord, HiveEvent, ModelReference, WorkerName};
use tracing::warn;

use super::{Charge, Report, Supervisor, number};
use crate::{
    decide::{
        admit::{Need, Room, admit},
        worker::Event,
    },
    inventory::Inventory,
    limits::Cage,
    metrics, output,
    store::{Progress, Store},
};

/// A model that is on this machine.
pub(super) struct Provided {
    /// Where: a file, or the test engine.
    reference: ModelReference,
    /// Its size, where it has one.
    bytes: Option<u64>,
    /// What the store has of it, where it came from the hub.
    record: Option<FileRecord>,
}

async fn provide(store: &Store, reference: &ModelReference, tell: impl FnMut(Progress)) -> Result<Provided, Failure> {
    if let ModelReference::Hub(wanted) = reference {
        let record = store.fetch(wanted, tell).await?;
        let here = ModelReference::File(record.path.clone().into());
        return Ok(Provided { reference: here, bytes: Some(record.bytes), record: Some(record) });
    }
    let path = store.provide(reference, tell).await?;
    let here = match reference {
        ModelReference::Mock(options) => ModelReference::Mock(options.clone()),
        ModelReference::File(_) | ModelReference::Hub(_) => ModelReference::File(path),
    };
    Ok(Provided { reference: here, bytes: store.size_of(reference).await, record: None })
}

impl Supervisor {
    /// Looks whether there is room, so that what has none is refused before anything is fetched; then gets the model.
    pub(super) fn start(&mut self, name: &WorkerName) {
        let Some(charge) = self.charges.get_mut(name) else { return };
        charge.asked = Some(Instant::now());
        let (spec, epoch) = (charge.worker.spec.clone(), charge.worker.epoch);
        if let Err(failure) = self.admit(name, None) {
            return self.step(name, Event::NotStarted(failure));
        }
        let (store, outbox, worker) = (self.store.clone(), self.outbox.clone(), name.clone());
        let (hive, reference) = (self.config.name.clone(), spec.reference);
        self.tasks.spawn(async move {
            let told = reference.clone();
            let tell = move |Progress { done_bytes, total_bytes, .. }: Progress| {
                let progress = HiveEvent::FetchProgress { reference: told.clone(), done_bytes, total_bytes };
                outbox.publish(&rbee_schema::Event::Hive(hive.clone(), progress));
            };
            let provided = provide(&store, &reference, tell).await;
            Report::Provided { worker, epoch, provided }
        });
    }

    /// The model is here, and its size is known: is there room for it?
    pub(super) fn provided(&mut self, name: &WorkerName, epoch: u64, provided: Result<Provided, Failure>) {
        if let Ok(Provided { record: Some(record), .. }) = &provided {
            self.show_file(record);
        }
        if self.charges.get(name).is_none_or(|charge| charge.worker.epoch != epoch) {
            return;
        }
        let unwanted = self.charges.get(name).and_then(|charge| charge.worker.unwanted().map(str::to_owned));
        if let Some(why) = unwanted {
            let failure = Failure::new(FailureCode::SpawnFailed, format!("no longer wanted: {why}"));
            return self.step(name, Event::NotStarted(failure));
        }
        match provided.and_then(|model| self.admit(name, model.bytes).map(|()| model.reference)) {
            Ok(reference) => self.launch(name, reference),
            Err(failure) => self.step(name, Event::NotStarted(failure)),
        }
    }

    /// Says whether a worker may start, and promises it what it needs.
    fn admit(&mut self, name: &WorkerName, bytes: Option<u64>) -> Result<(), Failure> {
        self.look_at_machine();
        let Some(charge) = self.charges.get(name) else { return Ok(()) };
        let mut spec = charge.worker.spec.clone();
        spec.limits = self.limits_of(charge);
        let need = Need::of(&spec, bytes);
        let others = || self.charges.iter().filter(|(other, charge)| *other != name && charge.need.is_some());
        let Some(inventory) = &self.inventory else {
            return Err(Failure::new(FailureCode::Internal, "the hive cannot see what this machine has"));
        };
        let room = Room {
            memory_total: inventory.memory_total,
            memory_available: inventory.memory_available,
            memory_reserved: self.memory_reserved(Some(name)),
            card_free: inventory.cards.iter().map(|card| card.free).max(),
            disk_free: inventory.disk_free,
            devices: &self.config.devices,
            workers: number(others().count()),
            max_workers: Some(self.config.max_workers),
            draining: self.draining,
        };
        metrics::memory(ByteSize(room.memory_available), ByteSize(room.memory_reserved));
        admit(&need, &room)?;
        if let Some(charge) = self.charges.get_mut(name) {
            charge.need = Some(need);
        }
        Ok(())
    }

    /// What the workers but `except` were promised and have not touched yet.
    pub(super) fn memory_reserved(&self, except: Option<&WorkerName>) -> u64 {
        let untouched = |charge: &Charge| charge.need.map_or(0, |need| need.memory.saturating_sub(charge.touched));
        self.charges.iter().filter(|(name, _)| Some(*name) != except).map(|(_, charge)| untouched(charge)).sum()
    }

    pub(super) fn look_at_machine(&mut self) {
        match Inventory::take(&self.config.store.folder, &self.cards) {
            Ok(inventory) => self.inventory = Some(inventory),
            Err(error) => warn!(%error, "what this machine has cannot be seen"),
        }
    }

    /// Puts a process that has just begun into its cage.
    pub(super) fn enclose(&mut self, worker: &WorkerName, pid: u32, cage: Cage) {
        let worker = worker.clone();
        self.tasks.spawn_blocking(move || match cage.admit(pid) {
            Ok(()) => Report::Done,
            Err(error) => Report::NotEnclosed { worker, pid, error },
        });
    }

    /// What cannot be limited must not run. That it ends is heard like any other end, with this as its last line.
    pub(super) fn not_enclosed(&mut self, worker: &WorkerName, pid: u32, error: &io::Error) {
        let Some(charge) = self.charges.get(worker).filter(|charge| charge.worker.pid() == Some(pid)) else { return };
        warn!(%worker, pid, %error, "a worker cannot be kept within its limits and is killed");
        let log = output::log_file(&self.config.data, worker);
        let said = output::append(&log).and_then(|mut log| writeln!(log, "its hive cannot limit it: {error}"));
        if let Err(error) = said {
            warn!(%worker, %error, "the log of a worker cannot be written");
        }
        if let Some(process) = &charge.process {
            process.kill();
        }
    }
}
