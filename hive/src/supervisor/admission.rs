//! Admission of a worker: is there room, is the model on this machine, is there still room. Part of step 3 of a job's path.

use std::{
    io::{self, Write as _},
    path::Path,
    time::Instant,
};

use rbee_schema::{ByteSize, Failure, FailureCode, ModelReference, WorkerName};
use tracing::warn;

use super::{
    files::progress_publisher,
    report::{Provided, Report},
    state::Supervisor,
};
use crate::{
    decide::{
        admit::{Need, Room, admit},
        worker::Event,
    },
    inventory::disk_free,
    ledger::Written,
    limits::WorkerCgroup,
    metrics, output,
    store::{Progress, Store},
};

impl Supervisor {
    /// Refuses a worker for which there is no room before anything is fetched, then waits for the ledger and gets the model.
    pub(super) fn start(&mut self, name: &WorkerName, written: Written) {
        let Some(managed) = self.workers.get_mut(name) else { return };
        managed.start_requested = Some(Instant::now());
        let (reference, epoch) = (managed.worker.spec.reference.clone(), managed.worker.epoch);
        if let Err(failure) = self.admit(name, None) {
            return self.step(name, Event::NotStarted(failure));
        }
        let (store, worker) = (self.store.clone(), name.clone());
        let publish = progress_publisher(&self.hive, &reference);
        self.tasks.spawn(async move {
            // A worker that the ledger does not know would be killed as an orphan after a crash of the hive.
            let provided = match written.confirmed().await {
                Ok(()) => provide(&store, &reference, publish).await,
                Err(error) => Err(not_recorded(&error)),
            };
            Report::Provided { worker, epoch, provided }
        });
    }

    /// Launches the worker, now that its model is here and the size of it is known, if there is still room.
    pub(super) fn provided(&mut self, name: &WorkerName, epoch: u64, provided: Result<Provided, Failure>) {
        if let Ok(Provided { record: Some(record), .. }) = &provided {
            self.hive.put_file_record(record);
        }
        let Some(managed) = self.workers.get(name).filter(|managed| managed.worker.epoch == epoch) else { return };
        if let Some(why) = managed.worker.stop_reason() {
            let failure = Failure::new(FailureCode::SpawnFailed, format!("stopped before it was started: {why}"));
            return self.step(name, Event::NotStarted(failure));
        }
        match provided.and_then(|model| self.admit(name, model.bytes).map(|()| model.reference)) {
            Ok(reference) => self.launch(name, reference),
            Err(failure) => self.step(name, Event::NotStarted(failure)),
        }
    }

    /// Decides whether a worker may start, and reserves what it needs.
    fn admit(&mut self, name: &WorkerName, bytes: Option<u64>) -> Result<(), Failure> {
        self.machine.inspect();
        let Some(managed) = self.workers.get(name) else { return Ok(()) };
        let mut spec = managed.worker.spec.clone();
        spec.limits = self.limits_of(managed);
        let need = Need::of(&spec, bytes);
        let Some(inventory) = self.machine.inventory() else {
            return Err(Failure::new(FailureCode::Internal, "failed to inspect this machine's memory and disk"));
        };
        let room = Room {
            memory_total: inventory.memory_total,
            memory_available: inventory.memory_available,
            memory_reserved: self.workers.memory_reserved(Some(name)),
            gpu_free: inventory.gpu_free(),
            disk_free: inventory.disk_free,
            devices: &self.hive.config.devices,
            workers: self.workers.admitted(name),
            max_workers: Some(self.hive.config.max_workers),
            draining: self.availability.is_draining(),
        };
        metrics::memory(ByteSize(room.memory_available), ByteSize(room.memory_reserved));
        admit(&need, &room)?;
        if let Some(managed) = self.workers.get_mut(name) {
            managed.need = Some(need);
        }
        Ok(())
    }

    /// Inspects the machine, and measures its disk for the next inspection in a task of its own.
    pub(super) fn inspect_machine(&mut self) {
        self.machine.inspect();
        if self.machine.begin_to_measure_disk() {
            let folder = self.hive.config.store.folder.clone();
            self.tasks.spawn_blocking(move || Report::DiskMeasured(disk_free(&folder)));
        }
    }

    /// Moves a process that has just begun into its cgroup, in a task of its own.
    pub(super) fn limit(&mut self, worker: &WorkerName, pid: u32, cgroup: WorkerCgroup) {
        let worker = worker.clone();
        let log = output::log_file(&self.hive.config.data, &worker);
        self.tasks.spawn_blocking(move || match cgroup.admit(pid) {
            Ok(()) => Report::Done,
            Err(error) => {
                log_failure(&log, &error);
                Report::NotLimited { worker, pid, error }
            }
        });
    }

    /// Kills a process whose limits could not be set. Its exit is then handled like any other.
    pub(super) fn not_limited(&mut self, worker: &WorkerName, pid: u32, error: &io::Error) {
        let run = self.workers.get(worker).and_then(|managed| managed.run.as_ref());
        let Some(run) = run.filter(|run| run.process.pid() == pid) else { return };
        warn!(%worker, pid, %error, "failed to set the limits of a worker; killing it");
        run.process.kill();
    }
}

/// Appends the reason of the kill to the worker's log, where it becomes the last line of the exit event.
fn log_failure(log: &Path, error: &io::Error) {
    let written = output::append(log).and_then(|mut log| writeln!(log, "the hive cannot limit this worker: {error}"));
    if let Err(error) = written {
        warn!(log = %log.display(), %error, "failed to write to the log of a worker");
    }
}

fn not_recorded(error: &str) -> Failure {
    let message = format!("failed to write the hive's ledger: {error}; free disk space, or choose another --data");
    Failure::new(FailureCode::DiskFull, message)
}

/// Gets a model onto this machine, from the hub where it is not here yet.
async fn provide(store: &Store, reference: &ModelReference, report: impl FnMut(Progress)) -> Result<Provided, Failure> {
    if let ModelReference::Hub(file) = reference {
        let record = store.fetch(file, report).await?;
        let stored = ModelReference::File(record.path.clone().into());
        return Ok(Provided { reference: stored, bytes: Some(record.bytes), record: Some(record) });
    }
    let path = store.provide(reference, report).await?;
    let stored = match reference {
        ModelReference::Mock(options) => ModelReference::Mock(options.clone()),
        ModelReference::File(_) | ModelReference::Hub(_) => ModelReference::File(path),
    };
    Ok(Provided { reference: stored, bytes: store.size_of(reference).await, record: None })
}
