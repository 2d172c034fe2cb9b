//! The fleet as recorded events tell it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Instant, SystemTime},
};

use rbee_schema::{
    ByteSize, Event, ExitClass, HiveEvent, HiveHeartbeat, HiveName, HiveRecord, HostName, JobEvent, JobId, JobInFlight,
    Labels, ModelEvent, ModelName, Protocol, QueenEvent, Tenant, WorkerEvent, WorkerHeartbeat, WorkerPhase,
    WorkerRecord,
};

use super::{
    Conditions,
    input::{Input, Silence},
};
use crate::decide::{
    fleet::{Effect, Fleet, WorkerKey},
    limits::QueenLimits,
};

/// The fleet as recorded events tell it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) fleet: Fleet,
    /// Sentences about what the events do not tell.
    pub(super) unknown: BTreeSet<String>,
    clock: Clock,
    hives: BTreeMap<HiveName, HiveRecord>,
    /// Hives that have stopped. Late events of their workers are no sign of life.
    stopped: BTreeSet<HiveName>,
    silences: Vec<Silence>,
    jobs: BTreeMap<(Tenant, JobId), OpenJob>,
    /// Models whose declaration is unknown.
    left_out: BTreeSet<ModelName>,
}

/// Instants of recorded times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) start: Instant,
    pub(super) first: SystemTime,
}

/// Job that waits or runs.
#[derive(Debug)]
struct OpenJob {
    model: ModelName,
    worker: Option<WorkerKey>,
}

impl Clock {
    pub(super) fn instant(self, at: SystemTime) -> Instant {
        self.start + at.duration_since(self.first).unwrap_or_default()
    }

    pub(super) fn time(self, at: Instant) -> SystemTime {
        self.first + at.saturating_duration_since(self.start)
    }
}

impl World {
    pub(super) fn new(
        conditions: &Conditions,
        first: SystemTime,
        silences: Vec<Silence>,
        left_out: BTreeSet<ModelName>,
    ) -> Self {
        Self {
            fleet: Fleet::new(conditions.timers.clone(), QueenLimits::default()),
            unknown: BTreeSet::new(),
            clock: Clock { start: conditions.start, first },
            hives: BTreeMap::new(),
            stopped: BTreeSet::new(),
            silences,
            jobs: BTreeMap::new(),
            left_out,
        }
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    /// Lets every hive that is not silent send a heartbeat, and applies the deadlines of the others.
    pub(super) fn advance(&mut self, now: Instant) {
        let at = self.clock.time(now);
        for (hive, record) in &self.hives {
            let is_silent = |silence: &Silence| {
                silence.hive == *hive && at > silence.from && silence.until.is_none_or(|until| at < until)
            };
            if !self.silences.iter().any(is_silent) {
                let beat = HiveHeartbeat {
                    epoch: record.epoch,
                    workers: 0,
                    ports_leased: 0,
                    ports_total: 0,
                    late_ms: 0,
                    free: None,
                };
                self.fleet.hive_heartbeat(hive, &beat, now);
            }
        }
        let effects = self.fleet.advance(now);
        self.carry_out(&effects, now);
    }

    fn carry_out(&mut self, effects: &[Effect], now: Instant) {
        if effects.contains(&Effect::CountQueue) {
            let models: BTreeSet<ModelName> = self.jobs.values().map(|job| job.model.clone()).collect();
            models.iter().for_each(|model| self.count(model, now));
        }
    }

    /// Tells the fleet how many jobs of a model wait or run.
    fn count(&mut self, model: &ModelName, now: Instant) {
        let depth = self.jobs.values().filter(|job| job.model == *model).count() as u64;
        self.fleet.queue_counted(model, depth, now, now);
    }

    pub(super) fn apply(&mut self, input: &Input, now: Instant) {
        match input {
            Input::JobQueued(tenant, job, submitted) => {
                if self.fleet.models().contains_key(&submitted.model) {
                    let open = OpenJob { model: submitted.model.clone(), worker: None };
                    self.jobs.insert((tenant.clone(), job.clone()), open);
                    self.fleet.job_queued(&submitted.model, now);
                }
            }
            Input::LastHeartbeat => {}
            Input::Event(event) => self.apply_event(event, now),
        }
    }

    fn apply_event(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Model(model, ModelEvent::Declared { spec, .. }) => {
                self.fleet.model_declared(model.clone(), (**spec).clone());
                self.count(model, now);
            }
            Event::Model(model, ModelEvent::Withdrawn {}) => self.fleet.model_withdrawn(model),
            Event::Model(model, ModelEvent::Refused { failure }) => {
                self.fleet.declaration_refused(model.clone(), failure.clone());
            }
            Event::Hive(hive, event) => self.apply_hive(hive, event, now),
            Event::Worker(hive, worker, event) => self.apply_worker((hive.clone(), worker.clone()), event, now),
            Event::Job(tenant, job, event) => self.apply_job((tenant, job), event, now),
            Event::Queen(_, QueenEvent::Placed { model, hive, worker, .. }) if !self.left_out.contains(model) => {
                self.fleet.spawn_commanded((hive.clone(), worker.clone()), model.clone(), now);
            }
            Event::Queen(_, QueenEvent::HiveSuspected { hive, why }) if !why.starts_with("no heartbeat") => {
                self.fleet.hive_disconnected(hive);
            }
            Event::Queen(_, QueenEvent::HiveRemoved { hive, .. }) => drop(self.hives.remove(hive)),
            Event::Queen(..) | Event::Port(..) | Event::Tenant(..) | Event::Alert(..) => {}
        }
    }

    fn apply_hive(&mut self, hive: &HiveName, event: &HiveEvent, now: Instant) {
        match event {
            HiveEvent::Joined { epoch, version, host, first_port, last_port } => {
                let record = HiveRecord {
                    epoch: *epoch,
                    version: version.clone(),
                    host: host.clone(),
                    first_port: *first_port,
                    last_port: *last_port,
                    ..unknown_hive()
                };
                self.stopped.remove(hive);
                self.register(hive, record, now);
            }
            HiveEvent::Degraded { why } => self.change(hive, now, |record| record.degraded = Some(why.clone())),
            HiveEvent::Restored {} => self.change(hive, now, |record| record.degraded = None),
            HiveEvent::Draining { .. } => self.change(hive, now, |record| record.draining = true),
            HiveEvent::Resumed {} => self.change(hive, now, |record| record.draining = false),
            HiveEvent::Stopped { .. } => {
                self.hives.remove(hive);
                self.stopped.insert(hive.clone());
                self.fleet.hive_key_removed(hive);
                let effects = self.fleet.hive_disconnected(hive);
                self.carry_out(&effects, now);
            }
            HiveEvent::Fetched { reference, .. } => {
                self.fleet.file_fetched(hive.clone(), format!("{hive}.{reference}"), reference.clone());
            }
            HiveEvent::FileRemoved { reference, .. } => self.fleet.file_removed(hive, &format!("{hive}.{reference}")),
            HiveEvent::Recovered { .. }
            | HiveEvent::Drained { .. }
            | HiveEvent::Fenced { .. }
            | HiveEvent::Refused { .. }
            | HiveEvent::FetchProgress { .. }
            | HiveEvent::FetchFailed { .. } => {}
        }
    }

    fn change(&mut self, hive: &HiveName, now: Instant, change: impl FnOnce(&mut HiveRecord)) {
        self.know(hive, now);
        if let Some(mut record) = self.hives.get(hive).cloned() {
            change(&mut record);
            self.register(hive, record, now);
        }
    }

    fn register(&mut self, hive: &HiveName, record: HiveRecord, now: Instant) {
        self.hives.insert(hive.clone(), record.clone());
        let effects = self.fleet.hive_registered(hive.clone(), record, now);
        self.carry_out(&effects, now);
    }

    /// A hive is mentioned. If no event has told of it, it joined before the first one.
    fn know(&mut self, hive: &HiveName, now: Instant) {
        let is_known = self.hives.contains_key(hive) || self.fleet.hives().contains_key(hive);
        if !is_known && !self.stopped.contains(hive) {
            self.unknown.insert(format!("the record of hive {hive}: it joined before the first event"));
            self.register(hive, unknown_hive(), now);
        }
    }

    fn apply_worker(&mut self, key: WorkerKey, event: &WorkerEvent, now: Instant) {
        self.know(&key.0, now);
        if matches!(event, WorkerEvent::Removed { .. }) {
            let effects = self.fleet.worker_removed(&key);
            return self.carry_out(&effects, now);
        }
        let before = self.fleet.worker(&key).map(|worker| worker.record.clone());
        let Some(mut record) = record_after(event, before) else { return };
        if self.left_out.contains(&record.model) {
            return;
        }
        if let (None, Some(spec)) = (&record.spec, self.fleet.models().get(&record.model)) {
            (record.slots, record.spec) = (spec.slots, Some(spec.clone()));
        }
        let effects = self.fleet.worker_updated(key, record, now);
        self.carry_out(&effects, now);
    }

    fn apply_job(&mut self, id: (&Tenant, &JobId), event: &JobEvent, now: Instant) {
        let id = (id.0.clone(), id.1.clone());
        match event {
            JobEvent::Started { hive, worker, submitted, .. } => {
                let key = (hive.clone(), worker.clone());
                let of_worker = || self.fleet.worker(&key).map(|worker| worker.record.model.clone());
                let model = submitted.as_ref().map(|submitted| submitted.model.clone()).or_else(of_worker);
                let Some(model) = model else { return };
                let before = self.jobs.insert(id, OpenJob { model, worker: Some(key.clone()) });
                before.and_then(|job| job.worker).iter().for_each(|worker| self.beat(worker, now));
                self.beat(&key, now);
            }
            JobEvent::Paused { .. } | JobEvent::Returned { .. } => {
                let left = self.jobs.get_mut(&id).and_then(|job| job.worker.take());
                left.iter().for_each(|worker| self.beat(worker, now));
                if let Some(model) = self.jobs.get(&id).map(|job| job.model.clone()) {
                    self.count(&model, now);
                }
            }
            JobEvent::Finished { .. } | JobEvent::Failed { .. } => {
                let Some(OpenJob { model, worker }) = self.jobs.remove(&id) else { return };
                match worker {
                    Some(worker) => self.beat(&worker, now),
                    None => self.fleet.job_left(&model, now),
                }
            }
            JobEvent::Blamed(_) | JobEvent::Retried { .. } | JobEvent::Resubmitted { .. } => {}
        }
    }

    /// Lets a worker send a heartbeat with the jobs that it runs.
    fn beat(&mut self, key: &WorkerKey, now: Instant) {
        let Some(WorkerRecord { model, epoch, slots, .. }) = self.fleet.worker(key).map(|worker| worker.record.clone())
        else {
            return;
        };
        let runs = self.jobs.iter().filter(|(_, job)| job.worker.as_ref() == Some(key));
        let jobs = runs.map(|((tenant, job), _)| JobInFlight {
            tenant: tenant.clone(),
            job: job.clone(),
            ack: format!("{tenant}.{job}"),
            waits: false,
            redelivery_ms: None,
        });
        let jobs = jobs.collect();
        let beat = WorkerHeartbeat {
            model,
            epoch,
            slots,
            jobs,
            tokens: 0,
            steps: 0,
            blocked: 0,
            memory_bytes: 0,
            cache: None,
        };
        self.fleet.worker_heartbeat(key, beat, now);
    }
}

/// Record of a worker after an event. `None` for an event that changes nothing, or of a worker whose model is unknown.
fn record_after(event: &WorkerEvent, before: Option<WorkerRecord>) -> Option<WorkerRecord> {
    let with = |phase: WorkerPhase| before.clone().map(|record| WorkerRecord { phase, ..record });
    let anew = |model: &ModelName, epoch: u64, phase: WorkerPhase| {
        let known = before.clone().filter(|record| record.model == *model);
        let record = known.unwrap_or_else(|| new_worker(model.clone()));
        WorkerRecord { epoch, phase, failure: None, ..record }
    };
    match event {
        WorkerEvent::Spawned { model, epoch, pid, port } => {
            let (pid, port) = (Some(*pid), Some(*port));
            Some(WorkerRecord { pid, port, ..anew(model, *epoch, WorkerPhase::Spawning) })
        }
        WorkerEvent::Loading { .. } => with(WorkerPhase::Loading),
        WorkerEvent::Ready { model, epoch, slots, .. } => {
            Some(WorkerRecord { slots: *slots, ..anew(model, *epoch, WorkerPhase::Ready) })
        }
        WorkerEvent::Adopted { model, epoch, .. } => match &before {
            Some(_) => None,
            None => Some(anew(model, *epoch, WorkerPhase::Ready)),
        },
        WorkerEvent::Suspect { .. } => with(WorkerPhase::Suspect),
        WorkerEvent::Recovered { .. } => with(WorkerPhase::Ready),
        WorkerEvent::Draining { .. } => with(WorkerPhase::Draining),
        WorkerEvent::Stopping { .. } => with(WorkerPhase::Stopping),
        WorkerEvent::Exited { model, epoch, class, .. } => {
            let record = anew(model, *epoch, WorkerPhase::Backoff);
            let asked = [WorkerPhase::Draining, WorkerPhase::Stopping];
            let is_asked = before.as_ref().is_some_and(|record| asked.contains(&record.phase));
            let exits = record.exits + u32::from(*class != ExitClass::Clean);
            // A worker that was asked to end is removed next.
            (!is_asked).then_some(WorkerRecord { exits, pid: None, port: None, ..record })
        }
        WorkerEvent::Restarting { .. } => with(WorkerPhase::Backoff),
        WorkerEvent::CrashLooped { model, failure, .. } => {
            let epoch = before.as_ref().map_or(0, |record| record.epoch);
            Some(WorkerRecord { failure: Some(failure.clone()), ..anew(model, epoch, WorkerPhase::CrashLoop) })
        }
        WorkerEvent::Failed { model, failure } => {
            let epoch = before.as_ref().map_or(0, |record| record.epoch);
            Some(WorkerRecord { failure: Some(failure.clone()), ..anew(model, epoch, WorkerPhase::Failed) })
        }
        WorkerEvent::Unkillable { .. } | WorkerEvent::Removed { .. } | WorkerEvent::Ignored { .. } => None,
    }
}

fn new_worker(model: ModelName) -> WorkerRecord {
    WorkerRecord {
        model,
        phase: WorkerPhase::Requested,
        epoch: 1,
        pid: None,
        port: None,
        slots: 1,
        exits: 0,
        limits: None,
        failure: None,
        spec: None,
    }
}

/// A hive of which nothing is known. It is taken to suit every worker.
fn unknown_hive() -> HiveRecord {
    HiveRecord {
        epoch: 0,
        version: String::new(),
        host: HostName::from_lossy("unknown"),
        first_port: 1,
        last_port: u16::MAX,
        pid: 0,
        state_id: String::new(),
        draining: false,
        degraded: None,
        memory: ByteSize(0),
        cores: 0,
        limit_method: None,
        metrics: None,
        protocol: Protocol::OURS,
        labels: Labels::new(),
        devices: Vec::new(),
        kinds: Vec::new(),
        max_workers: None,
        clock_skew_ms: 0,
    }
}
